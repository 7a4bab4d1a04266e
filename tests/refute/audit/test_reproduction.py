"""Claims repeated here: the same verdict, a figure within a margin; what cannot be repeated is a sentence."""

import shutil

import pytest

from refute.audit.computed import Engine, compute
from refute.audit.reproduction import CannotReproduce, newest
from refute.cli import main
from refute.select import Selection, embedded_model
from refute.verdict import Exit


@pytest.fixture(scope="module")
def engine():
    return Engine(Selection("bundled", embedded_model(), "embedded", "array", "auto"))


def subjects(audited, *bundles):
    return [each.subject(audited.here, audited.library) for each in bundles or (audited.whole, audited.again)]


def repeated(audited, engine, claim, margin, *bundles):
    computed = compute(
        subjects(audited, *bundles), engine, nonce=None, cases=0, claims=[claim], margin=margin
    )
    assert computed.challenge is None
    return computed.reproductions[0]


@pytest.mark.parametrize("claim", ["audited-v1/cached", "AUDITED_CACHED"])
def test_a_claim_is_reproduced(audited, engine, claim):
    found = repeated(audited, engine, claim, 0.02)
    assert (found.code, found.now, found.differs, found.difference) == (Exit.OK, "survived", "", None)


def test_a_falsification_is_reproduced(audited, engine):
    found = repeated(audited, engine, "bits", 0.02)
    assert (found.code, found.recorded, found.now) == (Exit.OK, "falsified", "falsified")


def test_a_figure_that_is_far_off_is_not_reproduced(audited, engine):
    bundle = audited.again.copy()
    bundle.edit("floor.json", lambda d: d["judgement"].update(point=d["judgement"]["point"] * 1000))
    found = repeated(audited, engine, "floor", 0.5, bundle)
    assert found.code is Exit.INVALID
    assert "expected at most 50.0%" in found.differs or found.now == "invalid"


def test_a_verdict_that_comes_out_otherwise_is_not_reproduced(audited, engine):
    bundle = audited.whole.copy()
    bundle.edit("bits.json", lambda d: d.update(verdict="survived"))
    found = repeated(audited, engine, "bits", 0.02, bundle)
    assert found.code is Exit.INVALID
    assert found.differs.startswith("falsified here: ")


def test_the_newest_record_is_the_one_that_is_repeated(audited, engine):
    subject, _, _ = newest(subjects(audited), "audited-v1/floor", engine.model_sha256)
    assert subject.folder.run == audited.again.run


@pytest.mark.parametrize(
    ("claim", "sentence"),
    [
        ("nothing", "nothing: no record of it is here"),
        ("promised", "promised: not-applicable in every record"),
    ],
)
def test_what_was_not_measured_cannot_be_repeated(audited, engine, claim, sentence):
    with pytest.raises(CannotReproduce, match=sentence):
        newest(subjects(audited), claim, engine.model_sha256)


def test_records_of_another_model_cannot_be_repeated(audited):
    with pytest.raises(CannotReproduce, match="its records are of refute pocket"):
        newest(subjects(audited), "floor", "0" * 64)


@pytest.fixture
def repository(audited, tmp_path, monkeypatch):
    shutil.copytree(audited.tree.parent, tmp_path / "repository")
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path / "repository"


def test_the_command_challenges_and_reproduces(repository, capsys):
    assert main(["audit", "--challenge", "n", "--cases", "2", "--reproduce", "cached"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("challenge n: of ") and "2 agree within" in line for line in lines)
    assert lines[-1].startswith("audited-v1/cached: survived in evidence/audited-v1/")
    assert lines[-1].endswith("; reproduced")


def test_a_model_that_is_not_here_refuses_it(repository, capsys):
    assert main(["audit", "--challenge", "n", "--model", "none.gguf"]) == Exit.MISSING
    assert "none.gguf: no such model file" in capsys.readouterr().err


def test_a_claim_that_is_not_here_refuses_it(repository, capsys):
    assert main(["audit", "--reproduce", "nothing"]) == Exit.MISSING
    assert "nothing: no record of it is here" in capsys.readouterr().err


@pytest.mark.parametrize("margin", ["-1", "x", "nan"])
def test_a_margin_is_a_number_of_percent(repository, capsys, margin):
    with pytest.raises(SystemExit):
        main(["audit", f"--margin={margin}"])
    assert "expected a number of percent" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "names"), [("--backend", "auto, array, cpu"), ("--device", "auto, cpu, gpu")]
)
def test_a_backend_or_device_that_does_not_exist_is_usage_and_tells_those_that_do(
    repository, capsys, option, names
):
    assert main(["audit", "--reproduce", "cached", option, "zzz"]) == Exit.USAGE
    out, said = capsys.readouterr()
    assert out == ""
    assert said.startswith(f"refute: {option[2:]} 'zzz': expected one of {names}")
