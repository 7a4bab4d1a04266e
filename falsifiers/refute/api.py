"""All that a kind of attack of your own needs, in one place to import from.

A kind says how one claim is attacked. The shortest one derives from `Searched` and writes three methods:

    class Rollback(Searched[Lengths]):                 # in contracts: `kind: rollback`
        def cases(self, target): ...                   # which cases to try: a Hypothesis strategy
        def observe(self, target, case): ...           # drive the engine, keep what it gave; no opinion
        def refutes(self, observation): ...            # whether this one case contradicts the claim

Derive from `Measured` for a median against a bound (`plan`, `observe`, `measure`), and from `Planned` where
you write `judge`, `caught` and `figure` too. What stands in the brackets is a frozen dataclass, which the
contract's `with` fills and whose constructor refuses with a sentence.

Cases and samples are what JSON can hold. `refutes`, `measure` and `judge` look at them alone, for they run
again whenever someone reads the record. Faults to catch are those of `refute.faults.catalogue`.
`refute.testing.check_kind` checks all of that.

A kind becomes usable by its name once it is installed with an entry point:

    [project.entry-points."refute.kinds"]
    rollback = "rollback_kind:Rollback"
"""

from refute.contract import Bound
from refute.kinds.base import Case, Drawn, Kind, Measured, NoParameters, Observation, Planned, Searched
from refute.kinds.cases import cases, chunkings, prompts, some_prompt
from refute.kinds.parameters import Lengths, finite, in_unit, whole_number
from refute.targets.base import Generation, Request, Sampling, Target, TargetError
from refute.targets.scores import Scores, Session
from refute.units import parse_quantity
from refute.verdict import Judgement, Outcome

__all__ = [
    "Bound",
    "Case",
    "Drawn",
    "Generation",
    "Judgement",
    "Kind",
    "Lengths",
    "Measured",
    "NoParameters",
    "Observation",
    "Outcome",
    "Planned",
    "Request",
    "Sampling",
    "Scores",
    "Searched",
    "Session",
    "Target",
    "TargetError",
    "cases",
    "chunkings",
    "finite",
    "in_unit",
    "parse_quantity",
    "prompts",
    "some_prompt",
    "whole_number",
]
