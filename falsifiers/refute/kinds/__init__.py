"""The kinds of attack, by the name that contracts write; each is imported when first asked for."""

from importlib import import_module
from typing import Any

from refute.kinds.base import Kind

_HOME = {
    "cache-equivalence": ("refute.kinds.equivalence", "CacheEquivalence"),
    "routing-equivalence": ("refute.kinds.equivalence", "RoutingEquivalence"),
    "layer-dispatch": ("refute.kinds.dispatch", "LayerDispatch"),
    "tok-floor": ("refute.kinds.throughput", "TokFloor"),
    "speed-up": ("refute.kinds.throughput", "SpeedUp"),
    "determinism": ("refute.kinds.determinism", "Determinism"),
    "seed-sensitivity": ("refute.kinds.determinism", "SeedSensitivity"),
    "greedy-equivalence": ("refute.kinds.determinism", "GreedyEquivalence"),
    "sampling-distribution": ("refute.kinds.distribution", "SamplingDistribution"),
    "needle-recall": ("refute.kinds.long_context", "NeedleRecall"),
    "far-equivalence": ("refute.kinds.long_context", "FarEquivalence"),
    "context-limit": ("refute.kinds.long_context", "ContextLimit"),
    "memory-peak": ("refute.kinds.memory", "MemoryPeak"),
    "memory-growth": ("refute.kinds.memory", "MemoryGrowth"),
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
