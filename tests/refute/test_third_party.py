"""A kind of another distribution, installed in an environment of its own: the one of the tutorial.

The environment is a venv that borrows the libraries of this one, so that nothing is downloaded.
"""

import json
import os
import subprocess
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from walkthrough import Command, follow, steps

from refute.api import Bound
from refute.testing import check_kind

TUTORIAL = Path(__file__).parents[2] / "docs" / "your-own-falsifier.md"


@dataclass(frozen=True)
class Place:
    """A folder with the tutorial's files, and a temporary environment to run commands in."""

    folder: Path
    site: Path
    environment: dict[str, str]

    def run(self, line: str, code: int = 0) -> str:
        done = subprocess.run(
            line,
            shell=True,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        printed = done.stdout + done.stderr
        assert (done.returncode, "Traceback" in printed) == (code, False), printed
        return printed


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("tutorial")
    venv.create(root / "venv", with_pip=False)
    programs = root / "venv" / "bin"
    (site,) = (root / "venv" / "lib").glob("python*/site-packages")
    borrowed = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    # addsitedir, and not the bare path, so that editable installs there are followed too
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(borrowed)]
    (site / "borrowed.pth").write_text("\n".join(lines))
    command = programs / "refute"
    start = "import sys; from refute.cli import main; sys.exit(main())"
    command.write_text(f'#!/bin/sh\nexec "$(dirname "$0")/python" -P -c \'{start}\' "$@"\n')
    command.chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "QWEN3_MOE_GGUF_PATH"},
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "COLUMNS": "200",
        "PIP_NO_BUILD_ISOLATION": "0",  # read as the option's value: no isolation
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    folder = root / "project"
    folder.mkdir()
    follow(TUTORIAL, folder, environment)
    return Place(folder, site, environment)


def test_the_tutorial_runs_as_it_stands(place: Place) -> None:
    """The fixture ran it, and fails where a command does not print what the tutorial shows."""
    assert sum(isinstance(step, Command) for step in steps(TUTORIAL)) == 11
    assert [*place.site.glob("rollback_kind-1.0.0.dist-info")]
    assert len([*place.folder.glob("broken/*/*/rejected-draft-leaves-no-trace.json")]) == 1


def test_the_record_says_whose_rule_judged(place: Place) -> None:
    for parallel in ("", "-n 2"):
        tree = f"simulated{parallel[-1:]}"
        assert "survived" in place.run(f"refute run --target fake --evidence {tree} {parallel}")
        (record,) = place.folder.glob(f"{tree}/*/*/rejected-draft-leaves-no-trace.json")
        finding = json.loads(record.read_text())
        assert (finding["verdict"], finding["rule_version"]) == ("survived", "1")
        origin = finding["kind_origin"]
        assert (origin["distribution"], origin["version"]) == ("rollback-kind", "1.0.0")
        assert len(origin["digest"]) == 64


def test_a_record_is_stale_once_the_code_changes_or_is_gone(place: Place) -> None:
    def status() -> tuple[str, str]:
        (claim,) = json.loads(place.run("refute status --json"))["claims"]
        return claim["status"], claim["reason"]

    module, (info,) = place.site / "rollback_kind.py", place.site.glob("rollback_kind-*.dist-info")
    honest = module.read_text()
    assert status() == ("open", "survived at level embedded; full-model discharges it")
    try:
        module.write_text(honest.replace("<= 0.01", "<= 0.02"))
        state, reason = status()
        assert state == "stale"
        assert reason.startswith("the rule of rollback changed: rollback-kind 1.0.0 (")
        module.write_text("1 / 0")
        assert "of rollback-kind 1.0.0 cannot be imported" in place.run("refute lint", code=2)
        info.rename(info.with_name("gone"))
        assert status() == ("stale", "kind 'rollback' is not installed here")
    finally:
        module.write_text(honest)
        info.with_name("gone").rename(info)


def test_the_careless_comparison_is_refused_as_the_tutorial_says() -> None:
    (source,) = (
        step[1] for step in steps(TUTORIAL) if isinstance(step, tuple) and "rollback_kind" in step[0]
    )
    careless = source.replace("not 0 <= ", "").replace("<= 0.01", "> 0.01")
    assert careless.endswith('return observation.samples["logits_apart"] > 0.01\n')
    module: dict[str, Any] = {}
    exec(careless, module)
    with pytest.raises(AssertionError) as refused:
        check_kind(
            module["Rollback"],
            {"max_tokens": 4, "prompt_tokens": [2, 24]},
            Bound(cases=5, confidence=0.95),
            faults=["rope-position"],
        )
    assert f"`{refused.value}`" in TUTORIAL.read_text()
