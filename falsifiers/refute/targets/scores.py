"""What a target makes of tokens that it is given one by one, and what another implementation makes of them.

A target's `session` gives scores; its `reference` and `token_reference` hold what they are compared with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from refute.targets.base import Counters, Identity

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model made of T tokens: V vocabulary, L layers, K experts per token.

    logits: (T, V) float32, raw; row t is what follows token t. experts: (T, L, K) ids, ascending, -1
    where a layer ran none. weights: (T, L, K), each expert's share of the sum. gaps: (T, L) as in
    `Routing`. These three are None where they were not asked for or the model has no router. counters: of
    the forward, as the engine reports them.
    """

    logits: "np.ndarray"
    experts: "np.ndarray | None" = None
    weights: "np.ndarray | None" = None
    gaps: "np.ndarray | None" = None
    counters: Counters = field(default_factory=Counters)


@dataclass(frozen=True, slots=True)
class Stopped:
    """What a generation gave until it was stopped: T tokens, of each the forward's experts as in `Scores`."""

    tokens: tuple[int, ...]
    experts: "np.ndarray | None" = None


@dataclass(frozen=True, slots=True)
class Forced:
    """A prompt and the tokens that are fed after it one by one, whatever the engine would have said."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


class Session(Protocol):
    """One sequence in the engine: tokens go in, scores come out; it goes on from where it stands."""

    @property
    def length(self) -> int:
        """Tokens that it holds."""
        ...

    def extend(self, tokens: Sequence[int], *, routing: bool = False) -> Scores:
        """Run tokens, one or more, in one forward after those that it holds."""
        ...

    def fork(self) -> "Session":
        """Return a sequence with the same past, that goes its own way."""
        ...

    def trim(self, length: int) -> None:
        """Forget all tokens from `length` on."""
        ...

    def stop(self, token: int, *, after: int, of: int, routing: bool = False) -> Stopped:
        """Let the engine generate `of` tokens greedily after `token`, and stop it once it has given `after`.

        The stop is the one that consumers have: a callback says that it wants no more. The sequence then
        holds `token` and the tokens given, but for the last one, which no forward has run.
        """
        ...


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """Texts and the token ids that another implementation gives them: `engine` in this `version`.

    nfc: whether texts were composed (Unicode NFC) first.
    """

    engine: str
    version: str
    nfc: bool
    vectors: tuple[tuple[str, tuple[int, ...]], ...]


class Reference(Protocol):
    """Numbers of the unmutated model from another implementation, to compare a target's with."""

    @property
    def identity(self) -> Mapping[str, object]:
        """Which implementation gave them: what `implementation` gives of a target."""
        ...

    def prompts(self, count: int, seed: int) -> Sequence[Forced]:
        """Up to `count` sequences that it has numbers for."""
        ...

    def scores(self, forced: Forced) -> Scores:
        """Scores at the last token of the prompt and at each token of the answer: T = 1 + len(answer)."""
        ...


def implementation(identity: Identity) -> dict[str, object]:
    """Say whose numbers a target's are: two that agree here are one and the same implementation."""
    settings = identity.settings
    return {
        "engine": identity.engine,
        "digest": identity.engine_digest,
        **{key: settings.get(key) for key in ("backend", "device", "numerics")},
    }
