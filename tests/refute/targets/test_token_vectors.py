"""Token vectors: whose file they are, strict reading, and that those of the embedded model are right."""

import hashlib
import json
from importlib.resources import as_file, files

import pytest

from refute.targets.base import TargetError
from refute.targets.bundled import BundledTarget
from refute.targets.token_vectors import read_vectors, vectors_path

POCKET = files("refute_runtime") / "pocket"
SHA256 = "ab" * 32
VECTOR = {"text": "a", "ids": [1, 2]}
FILE = {"model_sha256": SHA256, "engine": "other", "version": "1", "nfc": True, "vectors": [VECTOR]}


def write(folder, content):
    model = folder / "model.gguf"
    text = content if isinstance(content, str) else json.dumps(content)
    vectors_path(model).write_text(text, encoding="utf-8")
    return model


def test_vectors_of_the_file_are_read(tmp_path) -> None:
    vectors = read_vectors(write(tmp_path, FILE), SHA256)
    assert vectors is not None
    assert (vectors.engine, vectors.version, vectors.nfc) == ("other", "1", True)
    assert vectors.vectors == (("a", (1, 2)),)


@pytest.mark.parametrize("sha256", [None, "cd" * 32])
def test_another_file_has_none(sha256, tmp_path) -> None:
    assert read_vectors(write(tmp_path, FILE), sha256) is None


def test_no_file_is_none(tmp_path) -> None:
    assert read_vectors(tmp_path / "model.gguf", SHA256) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ('{"nfc": true, "nfc": true}', "twice"),
        ([], "a list, expected an object with model_sha256"),
        ({**FILE, "more": 1}, "found model_sha256, engine, version, nfc, vectors, more, expected"),
        ({**FILE, "nfc": 1}, "nfc is of type int, expected bool"),
        ({**FILE, "vectors": []}, "vectors is empty"),
        ({**FILE, "vectors": [VECTOR, {"text": "a"}]}, r"vectors\[1\] is no text with its ids"),
        ({**FILE, "vectors": [{**VECTOR, "ids": [True]}]}, r"vectors\[0\]"),
        ({**FILE, "vectors": [{**VECTOR, "ids": [-1]}]}, r"vectors\[0\]"),
        ({**FILE, "vectors": [{**VECTOR, "text": 1}]}, r"vectors\[0\]"),
    ],
)
def test_a_file_of_another_form_is_refused_by_name(content, message, tmp_path) -> None:
    with pytest.raises(TargetError, match=message) as refused:
        read_vectors(write(tmp_path, content), SHA256)
    assert "model.tokens.json" in str(refused.value)


def test_the_embedded_model_gives_the_ids_of_llama_cpp() -> None:
    with as_file(POCKET / "pocket.gguf") as path:
        target = BundledTarget(
            path, "array", model_sha256=lambda p: hashlib.sha256(p.read_bytes()).hexdigest()
        )
        reference = target.token_reference
        ours = [target.encode(text) for text, _ in reference.vectors]
        target.close()
    assert "token_reference" in target.capabilities
    assert (reference.engine, reference.nfc) == ("llama.cpp", True)
    assert len(ours) > 300
    assert ours == [ids for _, ids in reference.vectors]


def test_the_embedded_vectors_are_small() -> None:
    assert len((POCKET / "pocket.tokens.json").read_bytes()) < 100_000
