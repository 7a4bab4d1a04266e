"""Layer dispatch: the engine ran the layers that the model file names, by its own positive counters."""

from dataclasses import asdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Observation, Searched
from refute.kinds.cases import cases, chunkings
from refute.kinds.parameters import Lengths
from refute.targets.base import Request, Target

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


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
