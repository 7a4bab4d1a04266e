"""Whose numbers a target's are compared with: committed ones, or those of the `array` backend.

`array` is the specification, so it cannot be its own reference: for the embedded model another library's
numbers are stored beside the file, and for any other model `array` has none.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from refute.select import embedded_model
from refute.targets.base import TargetError
from refute.targets.scores import Forced, Reference, Scores

if TYPE_CHECKING:
    import numpy as np

_TEXTS = ("model_sha256", "engine", "numerics")
# dtype and letters of the shape: P prompts, S their tokens in all, A forced tokens, T = A + 1, V vocabulary,
# L layers, K experts per token
_ARRAYS = {
    "prompt_lengths": ("int32", "P"),
    "prompts": ("int32", "S"),
    "answers": ("int32", "PA"),
    "logits": ("float32", "PTV"),
    "experts": ("uint8", "PTLK"),
    "weights": ("float32", "PTLK"),
    "gaps": ("float32", "PTL"),
}


def reference_of(path: Path, backend: str, sha256: str | None) -> Reference | None:
    """Return the reference of a model file run by a backend; None where there is none.

    sha256: the file's digest, None where nobody knows it.
    """
    if backend != "array":
        from refute.targets.array_reference import ArrayReference  # noqa: PLC0415 (start-up time)
        from refute.targets.bundled import BundledTarget  # noqa: PLC0415 (it imports this module)

        return ArrayReference(BundledTarget(path, "array", "cpu", model_sha256=sha256))
    stored = embedded_model().with_name("reference.npz")
    if sha256 is None or not stored.is_file():
        return None
    committed = CommittedReference(stored)
    return committed if committed.model_sha256 == sha256 else None


class CommittedReference:
    """Logits and routing of one model file that another library gave, stored with the model.

    Raises `TargetError` for a file that is not exactly what it should be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._said = {name: str(value) for name, value in self._read(_TEXTS).items()}

    @property
    def model_sha256(self) -> str:
        """Digest of the model file that the numbers are of."""
        return self._said["model_sha256"]

    @cached_property
    def identity(self) -> Mapping[str, object]:
        return {
            "engine": self._said["engine"],
            "digest": hashlib.sha256(self._path.read_bytes()).hexdigest(),
            "backend": "eager",
            "device": "cpu",
            "numerics": self._said["numerics"],
        }

    def prompts(self, count: int, seed: int) -> Sequence[Forced]:
        """Return up to `count` of the stored sequences, in an order that follows from the seed."""
        known = list(self._places)
        random.Random(seed).shuffle(known)  # noqa: S311
        return known[:count]

    def scores(self, forced: Forced) -> Scores:
        """Return what is stored. Raises `TargetError` for a sequence that is not."""
        place = self._places.get(forced)
        if place is None:
            raise TargetError(
                f"{self._path}: no numbers for a prompt of {len(forced.prompt)} tokens that begins "
                f"{list(forced.prompt[:8])}; expected one of the {len(self._places)} stored sequences"
            )
        stored = self._arrays
        return Scores(*(stored[name][place] for name in ("logits", "experts", "weights", "gaps")))

    @cached_property
    def _places(self) -> dict[Forced, int]:
        prompts, answers = self._arrays["prompts"].tolist(), self._arrays["answers"].tolist()
        places, start = {}, 0
        for place, length in enumerate(self._arrays["prompt_lengths"].tolist()):
            places[Forced(tuple(prompts[start : start + length]), tuple(answers[place]))] = place
            start += length
        return places

    @cached_property
    def _arrays(self) -> "dict[str, np.ndarray]":
        import numpy as np  # noqa: PLC0415 (start-up time)

        stored = self._read(tuple(_ARRAYS))
        sizes: dict[str, int] = {}
        for name, (dtype, letters) in _ARRAYS.items():
            shape = stored[name].shape
            expected = tuple(
                sizes.setdefault(letter, size) for letter, size in zip(letters, shape, strict=False)
            )
            if stored[name].dtype != dtype or shape != expected or len(shape) != len(letters):
                raise TargetError(
                    f"{self._path}: {name} is {stored[name].dtype} {shape}, expected {dtype} {expected}"
                )
        if sizes["T"] != sizes["A"] + 1 or int(stored["prompt_lengths"].sum()) != sizes["S"]:
            raise TargetError(
                f"{self._path}: {sizes['T']} positions and {sizes['S']} prompt tokens, expected "
                f"{sizes['A'] + 1} and {int(stored['prompt_lengths'].sum())}"
            )
        if not all(np.isfinite(stored[name]).all() for name in ("logits", "weights", "gaps")):
            raise TargetError(f"{self._path}: a number is not finite; make the file again")
        return stored

    def _read(self, names: Sequence[str]) -> dict[str, Any]:
        import numpy as np  # noqa: PLC0415 (start-up time)

        try:
            with self._path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                wrong = set(stored.files) ^ {*_TEXTS, *_ARRAYS}
                if wrong:
                    raise TargetError(
                        f"{self._path}: {', '.join(sorted(wrong))} missing or unknown; "
                        f"expected {', '.join((*_TEXTS, *_ARRAYS))}"
                    )
                return {name: stored[name] for name in names}
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise TargetError(f"{self._path}: no reference can be read from it ({error})") from error
