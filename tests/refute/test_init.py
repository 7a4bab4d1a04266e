"""`refute init` in a git repository of its own, and everything that it wrote, run as a user would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from refute.cli import main
from refute.contract import load_contract
from refute.init import scaffold
from refute.schemas import schema_text
from refute.verdict import Exit

WRITTEN = [
    "contracts/example-v1.yaml",
    "contracts/contract.schema.json",
    ".github/workflows/refute.yml",
    ".pre-commit-config.yaml",
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A git repository after `refute init`, with `refute` on its path; what was printed is in `said`."""
    folder = tmp_path_factory.mktemp("user")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    tools = tmp_path_factory.mktemp("bin")
    for name, module in (("refute", "refute.cli"), ("pytest", "pytest")):
        script = tools / name
        script.write_text(f"#!{sys.executable}\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        script.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "PYTEST_"))}
    environment |= {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"}
    environment.pop("QWEN3_MOE_GGUF_PATH", None)

    def shell(command):
        """As GitHub runs a step: bash -e."""
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    shell.folder = folder
    shell.first = shell("refute init")
    return shell


def test_it_says_what_it_wrote_and_what_comes_next(repository):
    assert (repository.first.returncode, repository.first.stderr) == (Exit.OK, "")
    assert repository.first.stdout.splitlines() == [
        *(f"wrote  {name}" for name in WRITTEN),
        "REFUTE in .github/workflows/refute.yml names what pip installs there",
        "next:",
        "  refute lint",
        "  refute run",
    ]


def test_every_file_parses(repository):
    workflow = yaml.safe_load((repository.folder / ".github/workflows/refute.yml").read_text())
    assert list(workflow["jobs"]) == ["refute"]
    hooks = yaml.safe_load((repository.folder / ".pre-commit-config.yaml").read_text())
    assert [hook["entry"] for hook in hooks["repos"][0]["hooks"]] == ["refute lint"]
    assert (repository.folder / "contracts/contract.schema.json").read_text() == schema_text("contract")


def test_the_modeline_of_the_example_names_the_schema_beside_it(repository):
    line = (repository.folder / "contracts/example-v1.yaml").read_text().splitlines()[0]
    schema = repository.folder / "contracts" / line.removeprefix("# yaml-language-server: $schema=")
    assert json.loads(schema.read_text())["$id"] == "urn:refute:schema:contract:1"


def steps(repository):
    workflow = yaml.safe_load((repository.folder / ".github/workflows/refute.yml").read_text())
    return {step["name"]: step for step in workflow["jobs"]["refute"]["steps"] if "name" in step}


def test_the_workflow_lints_attacks_and_gates_as_the_shell_would(repository):
    chosen = steps(repository)
    assert list(chosen) == ["Install", "Lint", "Compare with the base", "Attack", "Gate", "Keep the evidence"]
    lint = repository(chosen["Lint"]["run"])
    assert (lint.returncode, lint.stdout) == (0, "1 contract with 2 falsifiers: no fault found\n")
    before = repository(chosen["Gate"]["run"])
    assert before.returncode == Exit.MISSING
    attack = repository(chosen["Attack"]["run"])
    assert attack.returncode == 0, attack.stdout + attack.stderr
    gate = repository(chosen["Gate"]["run"])
    assert gate.returncode == 0, gate.stdout + gate.stderr
    assert "gate pr: open" in gate.stdout
    assert list((repository.folder / chosen["Keep the evidence"]["with"]["path"]).glob("*/*/findings.json"))


def test_the_workflow_compares_with_the_base(repository):
    commit = "git -c user.name=a -c user.email=a@b -c commit.gpgsign=false"
    repository(f"git add contracts; {commit} commit -qm one; git update-ref refs/remotes/origin/main HEAD")
    command = steps(repository)["Compare with the base"]["run"]
    assert repository(f"export GITHUB_BASE_REF=main; {command}").returncode == 0
    path = repository.folder / "contracts/example-v1.yaml"
    before = path.read_text()
    try:
        path.write_text(before.replace("cases: 10", "cases: 5"))
        done = repository(f"export GITHUB_BASE_REF=main; {command}")
    finally:
        path.write_text(before)
    assert done.returncode == Exit.USAGE
    assert "expected 2.0.0 or higher" in done.stderr


def test_every_action_is_pinned_and_nothing_may_be_written(repository):
    workflow = yaml.safe_load((repository.folder / ".github/workflows/refute.yml").read_text())
    used = [step["uses"] for step in workflow["jobs"]["refute"]["steps"] if "uses" in step]
    assert len(used) == 3
    assert all(name.partition("@")[2].count(".") == 2 for name in used)
    assert workflow["permissions"] == {"contents": "read"}


def test_the_hook_lints(repository):
    (hook,) = yaml.safe_load((repository.folder / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert repository(hook["entry"]).returncode == 0


def test_the_contract_runs_on_the_simulated_engine(repository):
    done = repository("refute run --target fake --evidence .refute/fake")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("survived  ") >= 2


def test_pytest_runs_the_contract(repository):
    done = repository(
        "pytest contracts/ --refute-target fake --refute-evidence .refute/pytest -p no:cacheprovider"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


# what is there stays


def test_a_second_time_it_changes_nothing(tmp_path):
    assert scaffold(tmp_path).written == tuple(WRITTEN)
    before = {name: (tmp_path / name).read_bytes() for name in WRITTEN}
    again = scaffold(tmp_path)
    assert (again.written, again.left) == ((), tuple(WRITTEN))
    assert {name: (tmp_path / name).read_bytes() for name in WRITTEN} == before


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_that_exists_is_left_and_named(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine\n")
    made = scaffold(tmp_path)
    assert (path.read_text(), made.left) == ("mine\n", (name,))
    assert any(line.startswith("left ") and name in line for line in made.lines())


def test_a_dangling_link_is_not_written_through(tmp_path):
    (tmp_path / ".pre-commit-config.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    assert ".pre-commit-config.yaml" in scaffold(tmp_path).left
    assert not (tmp_path / "elsewhere.yaml").exists()


def test_hooks_that_exist_are_told_what_to_add(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path(".pre-commit-config.yaml").write_text("repos: []\n")
    assert main(["init"]) == Exit.OK
    out = capsys.readouterr().out
    assert "add to repos: in .pre-commit-config.yaml:\n  - repo: local\n" in out
    assert out.count("entry: refute lint") == 1


def test_contracts_of_ones_own_need_no_example(tmp_path):
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts/own-v1.yaml").write_text("id: own-v1\n")
    made = scaffold(tmp_path)
    assert "contracts/example-v1.yaml" not in made.written + made.left
    assert not (tmp_path / "contracts/example-v1.yaml").exists()


def test_a_folder_is_made_and_gone_into(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "new/project"]) == Exit.OK
    assert "next:\n  cd new/project\n  refute lint\n  refute run\n" in capsys.readouterr().out
    assert load_contract(tmp_path / "new/project/contracts/example-v1.yaml").id == "example-v1"


def test_a_file_in_the_place_of_the_folder_is_a_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["init", str(tmp_path / "file")]) == Exit.USAGE
    error = capsys.readouterr().err
    assert error.startswith("refute: ")
    assert "cannot be written: " in error
