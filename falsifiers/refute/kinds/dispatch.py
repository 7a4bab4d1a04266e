"""Layer dispatch: the engine ran the layers that the model file names, by its own positive counters."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from refute.kinds.base import Case, Observation, Searched
from refute.kinds.cases import cases, chunkings
from refute.kinds.parameters import Lengths
from refute.targets import routes
from refute.targets.base import Counters, Delivery, Request, Target

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


Check = Literal["layers", "guards"]
"""`layers`: every layer of every forward is run as the file has it; `guards`: none fires."""


def known_check(check: str) -> None:
    """Refuse another one. Raises ValueError with a sentence."""
    if check not in {"layers", "guards"}:
        raise ValueError(f"check is {check!r}, expected 'layers' or 'guards'")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryParameters(Lengths):
    """check: what of the counters is judged."""

    check: Check

    def __post_init__(self) -> None:
        Lengths.__post_init__(self)
        known_check(self.check)


class LayerDispatch(Searched[Lengths]):
    """Every forward runs each MoE layer as MoE and each dense layer as dense, and no guard fires."""

    name = "layer-dispatch"
    rule_version = "1"
    requires = frozenset({"token_ids", "cache_off", "chunks", "counters"})
    parameters_type = Lengths
    stricter = MappingProxyType({**Searched.stricter, "max_tokens": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Prompts, chunkings, both arms."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        return cases(target, self.parameters, chunks=chunkings(), cache=st.booleans())

    def observe(self, target: Target, case: Case) -> Observation:
        """Generate and keep the counters beside what the file says."""
        chunks = tuple(case["chunks"]) if case["cache"] else ()
        generation = target.generate(
            Request(tuple(case["prompt"]), case["max_tokens"], cache=case["cache"], chunks=chunks)
        )
        identity = target.identity
        return Observation(
            case,
            {
                "counters": asdict(generation.counters),
                "tokens": len(generation.tokens),
                "file": {"moe_layers": identity.moe_layers, "dense_layers": identity.dense_layers},
            },
        )

    def refutes(self, observation: Observation) -> bool:
        """Count layers per forward; an engine that ran no expert in a MoE layer is refuted too."""
        ran, file = observation.samples["counters"], observation.samples["file"]
        forwards = ran["forwards"]
        return bool(
            forwards < observation.samples["tokens"]
            or ran["moe_layers"] != forwards * file["moe_layers"]
            or ran["dense_layers"] != forwards * file["dense_layers"]
            or ran["experts_run"] < ran["moe_layers"]
            or ran["guards_fired"] > 0
        )

    def informative(self, observation: Observation) -> bool:
        """A case counts when the engine computed something."""
        return bool(observation.samples["counters"]["forwards"] > 0)


class EntryDispatch(Searched[EntryParameters]):
    """Every way into the engine runs the MoE layers of the file, counted positively on each."""

    name = "entry-dispatch"
    rule_version = "1"
    requires = frozenset({"token_ids", "counters", "routing"})
    parameters_type = EntryParameters
    stricter = MappingProxyType({**Searched.stricter, "max_tokens": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Prompts: every case goes through every entry point."""
        return cases(target, self.parameters)

    def observe(self, target: Target, case: Case) -> Observation:
        """Go through each entry point that the target names, and keep what the engine counted on it.

        Raises LookupError for one that nothing here drives: it would go unattacked.
        """
        unknown = [name for name in target.entry_points if name not in _DRIVERS]
        if unknown:
            raise LookupError(f"no driver for the entry point {', '.join(unknown)}; add one to {__name__}")
        counters, least = {}, {}
        for name in target.entry_points:
            counted, least[name] = _DRIVERS[name](target, case)
            counters[name] = asdict(counted)
        identity = target.identity
        return Observation(
            case,
            {
                "counters": counters,
                "least_forwards": least,
                "file": {"moe_layers": identity.moe_layers, "dense_layers": identity.dense_layers},
            },
        )

    def refutes(self, observation: Observation) -> bool:
        """One entry point on which the counters tell of other layers, or of a guard, or of too little."""
        samples = observation.samples
        return any(
            misrun(ran, samples["least_forwards"][name], samples["file"], self.parameters.check)
            for name, ran in samples["counters"].items()
        )

    def informative(self, observation: Observation) -> bool:
        """A case counts when there are entry points, and the file has MoE layers for them to run."""
        return bool(observation.samples["counters"]) and observation.samples["file"]["moe_layers"] > 0


def misrun(ran: Mapping[str, int], least: int, file: Mapping[str, int], check: Check) -> bool:
    """Whether counters tell of fewer forwards than `least`, of other layers than the file's, or of a guard.

    No guard fired proves nothing of forwards that were not counted, or ran no expert.
    """
    if ran["forwards"] < least or ran["experts_run"] == 0:
        return True
    if check == "guards":
        return ran["guards_fired"] > 0 or ran["moe_layers"] == 0
    return (
        ran["moe_layers"] != ran["forwards"] * file["moe_layers"]
        or ran["dense_layers"] != ran["forwards"] * file["dense_layers"]
        or ran["experts_run"] < ran["moe_layers"]
    )


def _generated(target: Target, case: Case, **how: Any) -> tuple[Counters, int]:
    """Counters of one request, and how many forwards it cannot have done without."""
    generation = target.generate(Request(tuple(case["prompt"]), case["max_tokens"], **how))
    return generation.counters, max(len(generation.tokens), 1)


def _chat(target: Target, case: Case) -> tuple[Counters, int]:
    messages = (("user", target.decode(case["prompt"])),)
    generation = target.generate(Request((), case["max_tokens"], messages=messages))
    return generation.counters, max(len(generation.tokens), 1)


def _session(target: Target, case: Case, *, cache: bool) -> tuple[Counters, int]:
    """The prompt, then its first tokens again, one by one."""
    prompt, more = case["prompt"], case["prompt"][: case["max_tokens"] - 1]
    session = target.session(len(prompt) + len(more), prompt=len(prompt), cache=cache)
    ran = [session.extend(prompt).counters, *(session.extend([token]).counters for token in more)]
    total = {name: sum(asdict(each)[name] for each in ran) for name in asdict(Counters())}
    return Counters(**total), len(ran)


_DRIVERS: Mapping[str, Callable[[Target, Case], tuple[Counters, int]]] = {
    routes.GENERATE: _generated,
    routes.TWIN: lambda target, case: _generated(target, case, cache=False),
    routes.CALLBACK: lambda target, case: _generated(target, case, delivery=Delivery("callback")),
    routes.ITERATOR: lambda target, case: _generated(target, case, delivery=Delivery("iterator")),
    routes.SESSION: lambda target, case: _session(target, case, cache=True),
    routes.SESSION_TWIN: lambda target, case: _session(target, case, cache=False),
    routes.CHAT: _chat,
}
"""How each entry point that a target can have is driven."""
