"""Token vectors: texts with the ids that another implementation gave them, in a file beside the model.

`NAME.tokens.json` lies beside `NAME.gguf` and names the model file's digest; `tests/oracle/make_tokens.py`
writes it with llama.cpp.
"""

from pathlib import Path
from typing import Any

from refute.strict_json import StrictJsonError, load_strict
from refute.targets.base import TargetError
from refute.targets.scores import TokenVectors

_FIELDS = {"model_sha256": str, "engine": str, "version": str, "nfc": bool, "vectors": list}


def vectors_path(model: Path) -> Path:
    return model.with_suffix(".tokens.json")


def read_vectors(model: Path, sha256: str | None) -> TokenVectors | None:
    """Read the vectors of a model file with this digest; None where there are none, or of another file.

    Raises `TargetError`, naming the file, for one that holds no vectors.
    """
    path = vectors_path(model)
    if sha256 is None or not path.is_file():
        return None
    try:
        data = load_strict(path.read_bytes())
    except (OSError, StrictJsonError) as error:
        raise TargetError(f"{path.name}: {error}; make it again or remove it") from None
    _check(data, path)
    if data["model_sha256"] != sha256:
        return None
    vectors = tuple((each["text"], tuple(each["ids"])) for each in data["vectors"])
    return TokenVectors(data["engine"], data["version"], data["nfc"], vectors)


def _check(data: Any, path: Path) -> None:
    if not isinstance(data, dict) or data.keys() != _FIELDS.keys():
        found = ", ".join(data) if isinstance(data, dict) else f"a {type(data).__name__}"
        raise TargetError(f"{path.name}: found {found}, expected an object with {', '.join(_FIELDS)}")
    for name, kind in _FIELDS.items():
        if not isinstance(data[name], kind):
            found = type(data[name]).__name__
            raise TargetError(f"{path.name}: {name} is of type {found}, expected {kind.__name__}")
    if not data["vectors"]:
        raise TargetError(f"{path.name}: vectors is empty, expected texts with their ids")
    for index, vector in enumerate(data["vectors"]):
        if (
            not isinstance(vector, dict)
            or vector.keys() != {"text", "ids"}
            or not isinstance(vector["text"], str)
            or not isinstance(vector["ids"], list)
            or not all(type(token) is int and token >= 0 for token in vector["ids"])
        ):
            raise TargetError(f"{path.name}: vectors[{index}] is no text with its ids, a list of token ids")
