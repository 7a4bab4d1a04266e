"""What is attacked: options, then the environment, then the embedded model."""

import pytest

from refute.select import embedded_model


def test_the_head_says_what_is_attacked_and_where_the_evidence_goes(project, decide):
    decide()
    project.run("contracts").stdout.fnmatch_lines(
        ["refute: attacks the simulated engine*", "refute: evidence goes to evidence; seed 0"]
    )


def test_a_model_of_the_environment_that_is_missing_blocks(project, monkeypatch):
    monkeypatch.setenv("QWEN3_MOE_GGUF_PATH", "/no/such.gguf")
    result = project.run("-rs", "contracts", target="bundled")
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(["SKIPPED*blocked: /no/such.gguf: no such model file (QWEN3_MOE_GGUF_PATH)"])
    assert set(project.verdicts().values()) == {"blocked"}


def test_a_model_that_is_no_model_blocks_with_a_sentence(project):
    (project.pytester.path / "broken.gguf").write_bytes(b"GGUF")
    result = project.run("-rs", "--refute-model=broken.gguf", "contracts", target="bundled")
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(["SKIPPED*blocked: *broken.gguf*"])


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--refute-model=none.gguf", "*none.gguf: no such model file*"),
        ("--refute-model=.", "*: is a folder, expected a GGUF file (--model)"),
        ("--refute-device=tpu", "device 'tpu': expected one of auto, cpu, gpu"),
        ("--refute-backend=blas", "backend 'blas': expected one of auto, array, cpu, cuda, mirror"),
        ("--refute-seed=-1", "*seed '-1': expected a whole number*"),
        (f"--refute-seed={2**53 + 1}", f"*seed '{2**53 + 1}': expected a whole number from 0 to {2**53}"),
    ],
)
def test_an_option_that_cannot_be_is_refused(project, option, sentence):
    result = project.run(option, "contracts", target="bundled")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: refute: {sentence}"])
    assert not (project.pytester.path / "evidence").exists()


def test_the_ini_file_gives_defaults(project, decide):
    decide()
    project.pytester.makeini("[pytest]\nrefute_evidence = kept\nrefute_seed = 7\n")
    project.run("contracts").stdout.fnmatch_lines(["refute: evidence goes to kept; seed 7"])


def test_without_a_word_the_embedded_model_is_attacked(project):
    result = project.run("--collect-only", "contracts", target="bundled")
    result.stdout.fnmatch_lines([f"refute: attacks*{embedded_model().name}*"])


def test_every_option_stands_under_one_heading(pytester):
    text = pytester.runpytest_inprocess("--help").stdout.str()
    group = text[text.index("refute: attacks on the claims") :]
    for name in ("model", "backend", "device", "evidence", "seed", "target", "faults"):
        assert f"--refute-{name}" in group
