"""The kinds of attack, by the name that contracts write; each is imported when first asked for.

To write one of your own, start at `refute.api`.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from refute.kinds.base import Kind
from refute.kinds.plugins import Origin, UnknownKind, UnusableKind, load, origin_of, registered

__all__ = [
    "ANY",
    "BUILT_IN",
    "INSTALLED",
    "Origin",
    "UnknownKind",
    "UnusableKind",
    "kind_named",
    "kind_origin",
]

_HOME = {
    "cache-equivalence": ("refute.kinds.equivalence", "CacheEquivalence"),
    "routing-equivalence": ("refute.kinds.equivalence", "RoutingEquivalence"),
    "layer-dispatch": ("refute.kinds.dispatch", "LayerDispatch"),
    "entry-dispatch": ("refute.kinds.dispatch", "EntryDispatch"),
    "cache-bits": ("refute.kinds.bits", "CacheBits"),
    "sequence-equivalence": ("refute.kinds.sequences", "SequenceEquivalence"),
    "tok-floor": ("refute.kinds.throughput", "TokFloor"),
    "speed-up": ("refute.kinds.throughput", "SpeedUp"),
    "determinism": ("refute.kinds.determinism", "Determinism"),
    "seed-sensitivity": ("refute.kinds.determinism", "SeedSensitivity"),
    "greedy-equivalence": ("refute.kinds.determinism", "GreedyEquivalence"),
    "logit-error": ("refute.kinds.numerics", "LogitError"),
    "experts-as-reference": ("refute.kinds.routing", "ExpertsAsReference"),
    "expert-load": ("refute.kinds.routing", "ExpertLoad"),
    "sampling-distribution": ("refute.kinds.distribution", "SamplingDistribution"),
    "text-round-trip": ("refute.kinds.tokenizer", "TextRoundTrip"),
    "stream-decoding": ("refute.kinds.tokenizer", "StreamDecoding"),
    "special-tokens-plain": ("refute.kinds.tokenizer", "SpecialTokensPlain"),
    "special-tokens-chat": ("refute.kinds.tokenizer", "SpecialTokensChat"),
    "reference-tokens": ("refute.kinds.tokenizer", "ReferenceTokens"),
    "repetition-penalty": ("refute.kinds.penalty", "RepetitionPenalty"),
    "stream-stop": ("refute.kinds.streaming", "StreamStop"),
    "stream-delivery": ("refute.kinds.streaming", "StreamDelivery"),
    "needle-recall": ("refute.kinds.recall", "NeedleRecall"),
    "far-equivalence": ("refute.kinds.long_context", "FarEquivalence"),
    "context-limit": ("refute.kinds.long_context", "ContextLimit"),
    "chat-content": ("refute.kinds.wire_dispatch", "ChatContent"),
    "route-dispatch": ("refute.kinds.wire_dispatch", "RouteDispatch"),
    "sse-events": ("refute.kinds.wire_stream", "SseEvents"),
    "sse-as-whole": ("refute.kinds.wire_stream", "SseAsWhole"),
    "sse-spread": ("refute.kinds.wire_times", "SseSpread"),
    "sse-gap": ("refute.kinds.wire_times", "SseGap"),
    "first-content": ("refute.kinds.wire_times", "FirstContent"),
    "request-rate": ("refute.kinds.wire_load", "RequestRate"),
    "clients-leave": ("refute.kinds.wire_load", "ClientsLeave"),
    "answer-form": ("refute.kinds.wire_conformance", "AnswerForm"),
    "answer-usage": ("refute.kinds.wire_conformance", "AnswerUsage"),
    "refusal-form": ("refute.kinds.wire_refusals", "RefusalForm"),
    "context-refusal": ("refute.kinds.wire_refusals", "ContextRefusal"),
    "stop-texts": ("refute.kinds.wire_text", "StopTexts"),
    "whole-characters": ("refute.kinds.wire_text", "WholeCharacters"),
    "answers-agree": ("refute.kinds.wire_seeds", "AnswersAgree"),
    "answers-differ": ("refute.kinds.wire_seeds", "AnswersDiffer"),
    "token-logprobs": ("refute.kinds.wire_logprobs", "TokenLogprobs"),
    "tool-calls": ("refute.kinds.wire_tools", "ToolCalls"),
    "memory-peak": ("refute.kinds.memory", "MemoryPeak"),
    "memory-growth": ("refute.kinds.memory", "MemoryGrowth"),
}

BUILT_IN: tuple[str, ...] = tuple(sorted(_HOME))


def kind_named(name: str) -> type[Kind[Any]]:
    """Return the class of a kind: one that is built in, or another distribution's. Raises `UnknownKind`."""
    if name not in _HOME:
        return load(name)
    module, attribute = _HOME[name]
    kind: type[Kind[Any]] = getattr(import_module(module), attribute)
    return kind


def kind_origin(name: str) -> Origin | None:
    """Return whose code a kind is; None of one that is built in (its `rule_version` says all)."""
    return None if name in _HOME else origin_of(name)


class _Installed(Mapping[str, type[Kind[Any]]]):
    """The kinds that are here, by name; whoever only asks whether one is, imports none."""

    def __contains__(self, name: object) -> bool:
        return name in _HOME or name in registered()

    def __getitem__(self, name: str) -> type[Kind[Any]]:
        return kind_named(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*_HOME, *registered()}))

    def __len__(self) -> int:
        return len({*_HOME, *registered()})


class _Any(_Installed):
    """Any name may be a kind's, here or elsewhere: for reading records that others made."""

    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: str) -> type[Kind[Any]]:
        try:
            return kind_named(name)
        except UnusableKind as why:
            raise UnknownKind(str(why)) from None


INSTALLED = _Installed()
ANY = _Any()
