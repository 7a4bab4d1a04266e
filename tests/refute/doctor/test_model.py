"""The model: bad files are checks that fail, with a fix; good ones are told."""

import dataclasses

import pytest

from refute.doctor.model import look_at_endpoint, look_at_file, look_into_file
from refute.select import Named, embedded_model


@pytest.fixture
def pocket(tmp_path):
    """A copy of the embedded model, which is then another file to the doctor."""
    path = tmp_path / "model.gguf"
    path.write_bytes(embedded_model().read_bytes())
    return path


def states(checks):
    return {check.name: check.state for check in checks}


def test_the_embedded_model_is_known(contract):
    checks = list(look_at_file(embedded_model(), [contract], None))
    assert states(checks) == {"model file": "ok", "sha256": "ok"}
    assert "evidence at level embedded" in checks[1].found


def test_a_file_that_a_contract_lists_can_discharge(contract, pocket):
    (_, unlisted) = look_at_file(pocket, [contract], None)
    digest = unlisted.found.partition(",")[0]
    assert unlisted.state == "warn"
    assert unlisted.fix.endswith(f"add to its model.sha256:  - {digest}")
    model = dataclasses.replace(contract.model, sha256=(digest,))
    (_, listed) = look_at_file(pocket, [dataclasses.replace(contract, model=model)], None)
    assert (listed.state, listed.fix) == ("ok", "")
    assert "listed in demo-v1" in listed.found


def test_what_is_no_file_fails_with_a_fix(tmp_path):
    for path, found in ((tmp_path, "is a folder"), (tmp_path / "none.gguf", "no such file")):
        (check,) = look_at_file(path, [], None)
        assert (check.state, found in check.found) == ("fail", True)
        assert check.fix


def test_a_file_that_cannot_be_read_fails(pocket, monkeypatch):
    def refused(path, progress):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("refute.provenance.model_sha256", refused)
    (check,) = look_at_file(pocket, [], None)
    assert (check.state, check.fix) == ("fail", f"chmod +r {pocket}")


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda data: data[:100_000], "is the download complete"),
        (lambda data: b"GGML" + data[4:], "expected b'GGUF'"),
        (lambda data: b"", "is empty"),
        (lambda data: data.replace(b"qwen3moe", b"llamamoe"), "which is not supported"),
    ],
    ids=["truncated", "not GGUF", "empty", "another architecture"],
)
def test_a_damaged_file_fails_without_a_traceback(pocket, damage, found):
    pocket.write_bytes(damage(pocket.read_bytes()))
    (check,), needs = look_into_file(pocket, "array", "auto")
    assert (check.state, needs) == ("fail", None)
    assert found in check.found
    assert check.fix


def test_a_sound_file_says_what_it_is_and_what_it_needs(pocket):
    (architecture, quantization, weights), needs = look_into_file(pocket, "array", "cpu")
    assert architecture.found.startswith("qwen3moe (refute pocket): 4 layers")
    assert "2 of 8 experts" in architecture.found
    assert "Q4_K 15 tensors" in quantization.found
    assert needs.file == pocket.stat().st_size
    assert needs.held > needs.file  # dequantized, and workspace and cache besides
    assert not needs.gpu
    assert weights.found == "mapped, computed on by array"
    assert not needs.reads


def test_an_endpoint_where_nobody_answers_fails():
    (check,) = look_at_endpoint(Named("http://127.0.0.1:9/v1"))
    assert check.state == "fail"
    assert "cannot reach" in check.found


def test_a_gpu_needs_memory_for_weights_work_and_two_sequences(pocket):
    checks, needs = look_into_file(pocket, "cuda", "auto")
    assert (checks[-1].name, checks[-1].state) == ("weights", "ok")
    assert "are uploaded to the GPU, computed on by cuda" in checks[-1].found
    assert needs.gpu
    assert not needs.reads
    assert needs.held > pocket.stat().st_size
