"""Bits: the logits over the cache are those of one prefill, to the last bit, however they came about.

A case prefills a prompt in chunks of one size, decodes a few tokens greedily, and does the same again and
again, on each number of threads; the twin is one prefill of all these tokens, on one thread. Nothing excuses
a difference: no rounding, no tie between experts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Observation, Searched
from refute.kinds.cases import some_prompt
from refute.kinds.parameters import several, whole_number
from refute.targets.base import Target

if TYPE_CHECKING:
    import numpy as np
    from hypothesis.strategies import SearchStrategy

_BEYOND = 48  # tokens of a prompt after its first chunk, at most
_SEEDS = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class BitsParameters:
    """What a case may be made of.

    chunks: sizes of a prefill's chunks. threads: how many compute; each in every case. max_tokens: decoded
    after the prompt. repeats: how often the same is done on each number of threads.
    """

    chunks: tuple[int, ...]
    threads: tuple[int, ...]
    max_tokens: int
    repeats: int

    def __post_init__(self) -> None:
        for name in ("chunks", "threads"):
            values = several(name, getattr(self, name))
            if not values:
                raise ValueError(f"{name} is empty, expected at least one whole number")
            for each in values:
                whole_number(name, each, 1)
            object.__setattr__(self, name, values)
        whole_number("max_tokens", self.max_tokens, 1)
        whole_number("repeats", self.repeats, 1)


class CacheBits(Searched[BitsParameters]):
    """Logits over the cache are those of one prefill to the last bit: any chunks, any threads, every time."""

    name = "cache-bits"
    rule_version = "1"
    requires = frozenset({"token_ids", "cache_off", "sessions", "threads", "bitwise"})
    parameters_type = BitsParameters
    stricter = MappingProxyType({**Searched.stricter, "max_tokens": "higher", "repeats": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Chunk sizes, and prompts that are longer than one chunk where the context allows."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        room = target.identity.context - self.parameters.max_tokens
        seeds = st.integers(0, _SEEDS - 1)

        def prompts(chunk: int) -> "SearchStrategy[dict[str, Any]]":
            lengths = st.integers(min(chunk + 1, room), min(chunk + _BEYOND, room))
            return st.fixed_dictionaries({"chunk": st.just(chunk), "length": lengths, "seed": seeds})

        return st.sampled_from(self.parameters.chunks).flatmap(prompts)

    def observe(self, target: Target, case: Case) -> Observation:
        """Run the case as often as wanted, then its twin on the tokens that the first run decoded."""
        prompt = some_prompt(target, case["length"], case["seed"])
        every = [threads for threads in self.parameters.threads for _ in range(self.parameters.repeats)]
        runs = [self._run(target, case["chunk"], prompt, threads) for threads in every]
        tokens, logits, read = runs[0]
        session = target.session(len(tokens), prompt=len(tokens), cache=False, threads=1)
        twin = session.extend(tokens).logits
        differing = _differing(logits, twin)
        samples = {
            "threads": every,
            "runs_sha256": [_digest(found) for _, found, _ in runs],
            "twin_sha256": _digest(twin),
            "compared": len(logits),
            "differing": len(differing),
            "first": differing[0] if differing else None,
            "finite": _finite(logits) and _finite(twin),
            "cache_positions_read": read,
        }
        return Observation(case, samples)

    def refutes(self, observation: Observation) -> bool:
        """Any other bit refutes, in any run; so does a logit that is no finite number."""
        samples = observation.samples
        return not samples["finite"] or {samples["twin_sha256"]} != set(samples["runs_sha256"])

    def informative(self, observation: Observation) -> bool:
        """A case counts when all its runs were compared, and the engine says that it read its cache."""
        samples, wanted = observation.samples, len(self.parameters.threads) * self.parameters.repeats
        every = len(samples["runs_sha256"]) == wanted
        return every and samples["compared"] > 0 and samples["cache_positions_read"] > 0

    def _run(
        self, target: Target, chunk: int, prompt: list[int], threads: int
    ) -> "tuple[list[int], np.ndarray, int]":
        """The tokens of one run, its logits (T, V), and how many cache positions it read."""
        import numpy as np  # noqa: PLC0415 (keeps NumPy out of collection)

        count = self.parameters.max_tokens
        session = target.session(len(prompt) + count, prompt=len(prompt), threads=threads)
        pieces = [prompt[start : start + chunk] for start in range(0, len(prompt), chunk)]
        done = [session.extend(piece) for piece in pieces]
        decoded: list[int] = []
        for _ in range(count):
            decoded.append(int(done[-1].logits[-1].argmax()))
            done.append(session.extend(decoded[-1:]))
        logits = np.concatenate([scores.logits for scores in done])
        return [*prompt, *decoded], logits, sum(scores.counters.cache_positions_read for scores in done)


def _digest(logits: "np.ndarray") -> str:
    return hashlib.sha256(logits.astype("<f4", order="C").tobytes()).hexdigest()


def _differing(found: "np.ndarray", expected: "np.ndarray") -> Sequence[int]:
    """The rows of (T, V) that differ in any bit."""
    return [row for row, (a, b) in enumerate(zip(found, expected, strict=True)) if a.tobytes() != b.tobytes()]


def _finite(logits: "np.ndarray") -> bool:
    import numpy as np  # noqa: PLC0415 (keeps NumPy out of collection)

    return bool(np.isfinite(logits).all())
