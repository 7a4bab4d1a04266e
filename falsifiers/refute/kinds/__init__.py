"""The kinds of attack, by the name that contracts write; each is imported when first asked for."""

from importlib import import_module
from typing import Any

from refute.kinds.base import Kind

_HOME = {
    "cache-equivalence": ("refute.kinds.equivalence", "CacheEquivalence"),
    "routing-equivalence": ("refute.kinds.equivalence", "RoutingEquivalence"),
    "layer-dispatch": ("refute.kinds.dispatch", "LayerDispatch"),
    "entry-dispatch": ("refute.kinds.dispatch", "EntryDispatch"),
    "tok-floor": ("refute.kinds.throughput", "TokFloor"),
    "speed-up": ("refute.kinds.throughput", "SpeedUp"),
    "determinism": ("refute.kinds.determinism", "Determinism"),
    "seed-sensitivity": ("refute.kinds.determinism", "SeedSensitivity"),
    "greedy-equivalence": ("refute.kinds.determinism", "GreedyEquivalence"),
    "logit-error": ("refute.kinds.numerics", "LogitError"),
    "experts-as-reference": ("refute.kinds.routing", "ExpertsAsReference"),
    "expert-load": ("refute.kinds.routing", "ExpertLoad"),
    "sampling-distribution": ("refute.kinds.distribution", "SamplingDistribution"),
    "text-round-trip": ("refute.kinds.tokenizer", "RoundTrip"),
    "stream-decoding": ("refute.kinds.tokenizer", "StreamDecoding"),
    "special-tokens-plain": ("refute.kinds.tokenizer", "PlainText"),
    "special-tokens-chat": ("refute.kinds.tokenizer", "ChatControls"),
    "reference-tokens": ("refute.kinds.tokenizer", "ReferenceTokens"),
    "repetition-penalty": ("refute.kinds.penalty", "RepetitionPenalty"),
    "stream-stop": ("refute.kinds.streaming", "StreamStop"),
    "stream-delivery": ("refute.kinds.streaming", "StreamDelivery"),
}

KIND_NAMES: tuple[str, ...] = tuple(sorted(_HOME))


class UnknownKind(KeyError):  # noqa: N818 (it is an answer about a contract, not a failure of ours)
    """No kind has that name."""


def kind_named(name: str) -> type[Kind[Any]]:
    """Return the class of a kind. Raises `UnknownKind`."""
    if name not in _HOME:
        raise UnknownKind(name)
    module, attribute = _HOME[name]
    kind: type[Kind[Any]] = getattr(import_module(module), attribute)
    return kind
