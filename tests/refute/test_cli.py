"""The `refute` command: what it prints, and with which code it ends."""

import html
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_contract import CACHED, REPEATS, contract, falsifier

import refute
from refute.attack import attack
from refute.cli import main
from refute.contract import load_contract
from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.ledger import Ledger
from refute.select import Selection
from refute.signing import keygen, load_public_key, verify
from refute.targets.fake import FakeTarget
from refute.trials import Controls
from refute.verdict import Exit, Verdict

COMMAND = [sys.executable, "-c", "import sys; from refute.cli import main; sys.exit(main())"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with `contracts/small-v1.yaml`, as working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QWEN3_MOE_GGUF_PATH", raising=False)
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts/small-v1.yaml").write_text(contract(REPEATS))
    return tmp_path


def run(*arguments, **environment):
    """Run the command in a process of its own: a pytest run inside pytest would share its state."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
        env={**os.environ, "COLUMNS": "120", **environment},
    )


@pytest.mark.parametrize("workers", ["x", "0", "-1", "1.5", ""])
def test_a_number_of_processes_that_is_none_is_one_sentence(project, capsys, workers):
    assert main(["run", f"-n{workers}" if workers else "-n="]) == Exit.USAGE
    said = capsys.readouterr().err
    assert said.endswith("expected a whole number of at least 1, or auto\n")
    assert said.count("\n") == 1


def test_a_record_that_is_not_there_is_named_once(project, capsys):
    assert main(["replay", "nofile"]) == Exit.USAGE
    assert capsys.readouterr().err == "refute: nofile: No such file or directory\n"


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"refute {refute.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["rum"], ["gate"], ["gate", "--profile", "none"], ["run", "--nope"]]
)
def test_wrong_usage_is_one_sentence(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == Exit.USAGE
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [[], ["lint"], ["init"], ["schema"], ["run"], ["mutate"], ["replay"], ["status"], ["gate"], ["audit"]],
)
def test_help(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert "usage: refute" in capsys.readouterr().out


def test_lint_counts(project, capsys):
    assert main(["lint"]) == Exit.OK
    assert capsys.readouterr().out == "1 contract with 1 falsifier: no fault found\n"


@pytest.mark.parametrize("command", [["lint"], ["run"], ["status"], ["gate", "--profile=pr"]])
def test_a_bad_contract_is_sentences_and_exit_code_2(project, capsys, command):
    (project / "contracts/small-v1.yaml").write_text(contract(REPEATS.replace("claim:", "clam:")))
    assert main(command) == Exit.USAGE
    assert (
        "contracts/small-v1.yaml:14:5: unknown key 'clam'; did you mean 'claim'?" in capsys.readouterr().err
    )


def test_a_path_that_is_not_there_is_a_sentence(project, capsys):
    assert main(["lint", "none.yaml"]) == Exit.USAGE
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("none.yaml:1:1: no such file or folder")


def test_run_says_what_it_attacks_then_verdicts_then_the_table_then_the_records(project):
    done = run("run", "--target=fake")
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"refute {refute.__version__} attacks the simulated engine")
    assert lines[1:3] == ["evidence goes to evidence; seed 0", "1 falsifier of 1 contract"]
    verdict = next(place for place, line in enumerate(lines) if line.startswith("survived "))
    table = next(place for place, line in enumerate(lines) if "figure against bound" in line)
    record = next(place for place, line in enumerate(lines) if line.startswith("record  evidence/small-v1/"))
    assert verdict < table < record
    assert (project / lines[record].split()[1] / "repeats.json").is_file()


def test_run_as_json_leaves_standard_output_to_it(project):
    done = run("run", "--target=fake", "--json")
    data = json.loads(done.stdout)
    assert (data["exit"], data["unobserved"]) == (0, [])
    assert [(each["falsifier"], each["verdict"]) for each in data["findings"]] == [("repeats", "survived")]
    assert "survived" in done.stderr


def test_what_is_left_out_is_unobserved(project):
    (project / "contracts/small-v1.yaml").write_text(contract(REPEATS, falsifier("other")))
    done = run("run", "--target=fake", "-k", "repeats")
    assert done.returncode == Exit.MISSING
    assert "unobserved" in done.stdout


def test_nothing_chosen_is_no_success(project):
    assert run("run", "--target=fake", "-k", "nothing").returncode == Exit.MISSING


def test_a_missing_model_of_the_environment_blocks(project):
    done = run("run", QWEN3_MOE_GGUF_PATH="/no/such.gguf")
    assert done.returncode == Exit.MISSING
    assert "blocked" in done.stdout


def test_a_missing_model_that_was_named_is_a_usage_error(project):
    done = run("run", "--model", "none.gguf")
    assert done.returncode == Exit.USAGE
    assert "none.gguf: no such model file" in done.stderr


def test_a_wrong_expression_is_a_usage_error(project):
    done = run("run", "--target=fake", "-k", "and and")
    assert done.returncode == Exit.USAGE
    assert "Traceback" not in done.stderr


def test_faults_shows_the_matrix_and_records_nothing(project):
    done = run("run", "--target=fake", "--faults")
    assert done.returncode == Exit.OK
    assert any("greedy-sampled" in line and "caught" in line for line in done.stdout.splitlines())
    assert not (project / "evidence").exists()


def test_every_fault_on_every_falsifier_lists_those_that_nobody_catches(project):
    done = run("run", "--target=fake", "--faults", "--all", "--json")
    assert done.returncode == Exit.INVALID, done.stderr
    matrix = json.loads(done.stdout)["matrix"]
    assert {cell["fault"] for cell in matrix["cells"]} == set(FAULTS)
    caught = {cell["fault"] for cell in matrix["cells"] if cell["caught"]}
    assert "greedy-sampled" in caught
    assert "cache-ignored" in matrix["holes"]  # the tokens stay right, and this contract only looks at tokens
    assert caught.isdisjoint(matrix["holes"])
    assert not (project / "evidence").exists()


@pytest.mark.parametrize("option", ["-k=x", "-m=x", "--faults"])
def test_what_a_run_is_of_is_not_chosen_again_when_it_goes_on(capsys, option):
    assert main(["run", "--resume", option]) == Exit.USAGE
    expected = f"refute: {option.partition('=')[0]} does not go with --resume"
    assert capsys.readouterr().err.startswith(expected)


def test_every_fault_belongs_to_faults(project, capsys):
    assert main(["run", "--all"]) == Exit.USAGE
    assert "--faults" in capsys.readouterr().err


def test_an_uncaught_fault_is_exit_code_4(project):
    (project / "contracts/small-v1.yaml").write_text(
        contract(REPEATS.replace("greedy-sampled", "cache-ignored"))
    )
    for more in ([], ["--faults"]):
        done = run("run", "--target=fake", *more)
        assert done.returncode == Exit.INVALID, done.stdout + done.stderr
        assert "cache-ignored" in done.stdout


@pytest.mark.parametrize(
    ("chosen", "code", "sentence"),
    [
        (["-k", "none"], Exit.MISSING, "refute: no falsifier matches -k none; expected"),
        (["-m", "falsifier(kind='none')"], Exit.MISSING, "refute: no falsifier matches -m "),
        (["-k", "not a b"], Exit.USAGE, "ERROR: Wrong expression passed to '-k'"),
    ],
)
def test_a_choice_of_nothing_is_a_sentence(project, chosen, code, sentence):
    done = run("run", "--target=fake", *chosen)
    assert done.returncode == code
    assert done.stderr.startswith(sentence)
    assert "test session starts" not in done.stderr


def test_a_tree_that_cannot_be_written_to_has_no_records(project):
    (project / "file").touch()
    done = run("run", "--target=fake", "--evidence=file")
    assert done.returncode == Exit.USAGE
    assert "refute: no record can be written: " in done.stderr
    assert "record  " not in done.stdout


def test_processes_share_one_record(project):
    (project / "contracts/small-v1.yaml").write_text(contract(REPEATS, falsifier("other")))
    done = run("run", "--target=fake", "-n", "2")
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    (summary,) = (project / "evidence").glob("*/*/findings.json")
    assert json.loads(summary.read_text())["state"] == "complete"


def test_status_and_gate_read_what_run_wrote(project):
    run("run", "--target=fake")
    status = run("status", "--json")
    (claim,) = json.loads(status.stdout)["claims"]
    assert (status.returncode, claim["status"], claim["level"]) == (Exit.OK, "open", "simulated")
    decision = run("gate", "--profile=pr")
    assert decision.returncode == Exit.MISSING
    assert "gate pr: closed" in decision.stdout


@pytest.mark.parametrize("policy", ["", '[tool.refute]\nevidence = ["kept", "evidence"]\n'])
def test_records_go_where_the_other_commands_look_for_them(project, monkeypatch, policy):
    """A pytest root further up moves neither what is written nor what is read."""
    (project / "pyproject.toml").write_text('[tool.pytest.ini_options]\nrefute_evidence = "of-pytest"\n')
    inner = project / "inner"
    inner.mkdir()
    (project / "contracts").rename(inner / "contracts")
    if policy:
        (inner / "pyproject.toml").write_text(policy)
    monkeypatch.chdir(inner)
    tree = "kept" if policy else "evidence"
    done = run("run", "--target=fake")
    assert done.stdout.splitlines()[1] == f"evidence goes to {tree}; seed 0", done.stderr
    (summary,) = project.rglob("findings.json")
    assert summary.relative_to(inner).parts[0] == tree
    assert "runs read: 1" in run("status").stdout
    assert json.loads(run("gate", "--profile=pr", "--json").stdout)["runs"] == 1
    assert json.loads(run("audit", "--json").stdout)["runs"] == 1
    assert run("report", "--compare", summary.parent.name, summary.parent.name).returncode == Exit.OK


def test_a_run_signs_its_records(project):
    assert run("keygen", "key").returncode == Exit.OK
    done = run("run", "--target=fake", "--sign=key")
    assert done.returncode == Exit.OK
    (record,) = (project / "evidence/small-v1").iterdir()
    key = load_public_key(Path("key.pub"))
    assert f"signed  by {key.id[:16]}" in done.stdout
    assert verify(record, [key]) == (key.id,)


def test_a_run_that_is_not_there_cannot_be_signed(project, capsys):
    keygen(Path("key"))
    assert main(["sign", "none", "--key", "key"]) == Exit.USAGE
    assert capsys.readouterr().err == "refute: none: no such folder; expected a run, evidence/CONTRACT/RUN\n"


@pytest.mark.parametrize("arguments", [["--sign=none"], ["--sign=key", "--faults"]])
def test_a_run_that_cannot_sign_does_not_begin(project, capsys, arguments):
    keygen(Path("key"))
    assert main(["run", "--target=fake", *arguments]) == Exit.USAGE
    assert capsys.readouterr().err.startswith("refute: ")
    assert not (project / "evidence").exists()


TELLING = [
    ["status"],
    ["status", "--json"],
    ["gate", "--profile=pr"],
    ["report", "--format=markdown"],
    ["run", "--target=fake"],
    ["--help"],
]


@pytest.mark.parametrize("arguments", TELLING)
def test_a_reader_that_has_seen_enough_gets_no_verdict(project, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, *arguments], stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    os.close(writing)
    assert done.returncode == Exit.INTERNAL
    assert "Traceback" not in done.stderr
    assert "refute: " not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("arguments", TELLING)
def test_output_that_has_no_room_is_one_sentence(project, arguments):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert done.returncode == Exit.INTERNAL
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert said == "refute: the output cannot be written: No space left on device"


def test_a_run_that_cannot_be_shown_is_sealed_as_interrupted(project):
    (project / "contracts/small-v1.yaml").write_text(contract(*(falsifier(f"of-{n}") for n in range(200))))
    with subprocess.Popen(
        [*COMMAND, "run", "--target=fake"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("survived"):
                break
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
    assert (process.returncode, said) == (Exit.INTERNAL, "")
    (summary,) = project.glob("evidence/*/*/findings.json")
    document = json.loads(summary.read_text())
    assert document["state"] == "interrupted"
    assert 0 < len(document["findings"]) < 200


@pytest.mark.parametrize("arguments", TELLING)
def test_signs_that_an_encoding_lacks_are_written_in_others(project, arguments):
    run("run", "--target=fake")
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode not in (Exit.INTERNAL, Exit.USAGE)
    assert b"Traceback" not in done.stderr
    assert (done.stdout + done.stderr).isascii()


def test_markdown_in_ascii_means_the_same(project):
    whole, plain = (
        run("report", "--format=markdown", PYTHONIOENCODING=encoding).stdout
        for encoding in ("utf-8", "ascii")
    )
    head = whole.splitlines()[0]
    assert not head.isascii()
    assert html.unescape(plain.splitlines()[0]) == head


def test_gate_without_records_is_closed(project):
    assert run("gate", "--profile=pr", "--json").returncode == Exit.MISSING


@pytest.fixture
def counterexample(project):
    """The file of a finding that a broken engine gave, and that engine."""
    path = project / "contracts/small-v1.yaml"
    path.write_text(contract(CACHED))
    loaded = load_contract(path)
    with FakeTarget(1).plant(Fault("empty-cache", 1.0)) as broken:
        finding = attack(
            loaded.falsifiers[0],
            broken,
            contract=loaded,
            run="20260101T000000.000Z-00000000",
            seed=0,
            controls=Controls(FakeTarget),
        )
        assert finding.verdict is Verdict.FALSIFIED
        file = project / "finding.json"
        file.write_text(json.dumps(finding.to_json()))
        yield file, broken


def test_replay_on_the_broken_engine_refutes_again(counterexample, monkeypatch, capsys):
    file, broken = counterexample
    monkeypatch.setattr(Selection, "open", lambda selection, progress=None: broken)
    assert main(["replay", str(file)]) == Exit.FALSIFIED
    assert capsys.readouterr().out.endswith("refutes the claim again\n")


def test_replay_on_a_mended_engine_does_not(counterexample, capsys):
    assert main(["replay", str(counterexample[0])]) == Exit.OK
    out = capsys.readouterr().out
    assert out.startswith("small-v1/cached on the simulated engine")
    assert out.endswith("does not refute the claim now\n")


def test_replay_of_something_else_is_a_sentence(project, capsys):
    Path("x.json").write_text("{}")
    assert main(["replay", "x.json"]) == Exit.USAGE
    assert main(["replay", "none.json"]) == Exit.USAGE
    assert capsys.readouterr().err.count("refute: ") == 2


def test_an_internal_error_is_no_verdict(project, monkeypatch, capsys):
    def broken(*arguments, **rest):
        raise ZeroDivisionError

    monkeypatch.setattr("refute.commands.status.contracts_of", broken)
    assert main(["status"]) == Exit.INTERNAL
    shown = capsys.readouterr().err
    assert "ZeroDivisionError" in shown
    assert "internal error, not a verdict" in shown


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([Verdict.SURVIVED, Verdict.NOT_APPLICABLE], Exit.OK),
        ([Verdict.SURVIVED, Verdict.FALSIFIED, Verdict.INVALID], Exit.FALSIFIED),
        ([Verdict.INCONCLUSIVE, Verdict.SURVIVED], Exit.INCONCLUSIVE),
        ([Verdict.INCONCLUSIVE, Verdict.BLOCKED], Exit.MISSING),
        ([Verdict.BLOCKED, Verdict.INVALID], Exit.INVALID),
        ([Verdict.ERROR], Exit.INVALID),
        ([], Exit.MISSING),
    ],
)
def test_the_worst_verdict_decides(tmp_path, verdicts, code):
    class Told:
        def __init__(self, verdict):
            self.verdict, self.contract, self.falsifier = verdict, "small-v1", verdict.value

    ledger = Ledger(0, tmp_path, tmp_path)
    ledger.findings = [Told(verdict) for verdict in verdicts]
    assert ledger.exit_code() is code
