"""A kind of attack: observe, refute or measure, judge.

`observe` drives the engine for one case and holds no opinion. `refutes` and `measure` look at one
observation, `judge` at all of them; all three are pure, so that the record can be judged again by anyone.
Everything in a case and in samples is what `json` can hold, and survives a round trip unchanged.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar, get_args

from refute.statistics import excluded_rate, order_statistic_interval, quantile_of
from refute.targets.base import Target
from refute.verdict import Judgement, Outcome

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from refute.contract import Bound

Case = Mapping[str, Any]
P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Observation:
    """One case and the raw, ordered samples that the engine gave for it."""

    case: Case
    samples: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a picture of observations shows beside the bound: one figure per `each`, in the bound's unit.

    interval: of `statistic`, such as the median; None where the judgement has none.
    """

    figures: Sequence[float]
    each: str
    statistic: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class NoParameters:
    """Of a kind for which a contract has nothing to set."""


class Kind(ABC, Generic[P]):
    """A family of attacks. `parameters` is the frozen dataclass that the contract's `with` fills.

    name: as contracts write it; `TokFloor` is `tok-floor` unless it says otherwise. rule_version: changes
    whenever `judge` can judge the same samples otherwise. requires: capabilities without which the kind
    does not apply. parameters_type: what stands in the brackets of the base class. bound_fields: what the
    contract's bound must give, and may give no more than. unit: the base unit of the bound's threshold,
    where there is one. measured: what the bound's `of` must be, where there is one. timing: samples are
    times, so nothing else may run beside it. paired: each figure is a ratio of two such times of one run,
    which a busy host makes longer alike: how steady it was is kept, and decides nothing. stricter: which
    way a parameter or a number of the bound asks for more; a change of what is not listed may flip a
    verdict either way.
    """

    name: ClassVar[str]
    rule_version: ClassVar[str] = "1"
    requires: ClassVar[frozenset[str]] = frozenset()
    parameters_type: ClassVar[type] = NoParameters
    bound_fields: ClassVar[frozenset[str]]
    unit: ClassVar[str | None] = None
    measured: ClassVar[str | None] = None
    timing: ClassVar[bool] = False
    paired: ClassVar[bool] = False
    stricter: ClassVar[Mapping[str, Literal["higher", "lower"]]] = MappingProxyType({})

    def __init_subclass__(cls, **rest: Any) -> None:
        """Fill in what the class statement says already."""
        super().__init_subclass__(**rest)
        if "name" not in vars(cls):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()
        given = [each for base in vars(cls).get("__orig_bases__", ()) for each in get_args(base)]
        if (
            "parameters_type" not in vars(cls)
            and given
            and isinstance(given[0], type)
            and given[0] is not Any
        ):
            cls.parameters_type = given[0]

    def __init__(self, parameters: P) -> None:
        self.parameters = parameters

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Make one from a contract's `with`. Raises what the parameters refuse."""
        return cls(cls.parameters_type(**parameters))

    @abstractmethod
    def observe(self, target: Target, case: Case) -> Observation:
        """Drive the engine for one case."""

    @abstractmethod
    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """Judge stored observations; pure and deterministic."""

    @abstractmethod
    def caught(self, observations: Sequence[Observation], bound: "Bound") -> bool:
        """Whether these observations, taken under a fault, already rule a green verdict out."""

    @abstractmethod
    def figure(self, judgement: Judgement, bound: "Bound") -> str:
        """Say figure against bound in one short phrase, for tables."""

    def drawn(
        self,
        observations: Sequence[Observation],  # noqa: ARG002 (for subclasses)
        judgement: Judgement,  # noqa: ARG002 (for subclasses)
    ) -> Drawn | None:
        """Give the figures that the bound is about, for a picture; None where they are no quantity."""
        return None


class Searched(Kind[P]):
    """A claim that one counterexample refutes; cases come from a Hypothesis strategy and shrink.

    tries: where not every case is informative, up to this many times the planned number of cases is tried
    until as many as were planned are.
    """

    bound_fields = frozenset({"cases", "confidence"})
    stricter = MappingProxyType({"cases": "higher", "confidence": "higher"})
    tries: ClassVar[int] = 1

    @abstractmethod
    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Cases that fit this target."""

    @abstractmethod
    def refutes(self, observation: Observation) -> bool:
        """Whether this one case contradicts the claim."""

    def informative(self, observation: Observation) -> bool:  # noqa: ARG002 (for subclasses)
        """Whether this case could have contradicted the claim; the others are not counted."""
        return True

    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """One counterexample falsifies; `bound.cases` informative clean cases survive."""
        assert bound.cases is not None
        refuting = sum(map(self.refutes, observations))
        n = sum(map(self.informative, observations))
        if refuting:
            reason = f"{refuting} of {len(observations)} cases contradict the claim"
            return Judgement(Outcome.FALSIFIED, reason, len(observations), refuting)
        if n < bound.cases:
            reason = f"{n} informative cases of {bound.cases} planned"
            return Judgement(Outcome.INCONCLUSIVE, reason, n, 0)
        # Cases that are known from earlier runs come on top of those that were drawn, and were not drawn.
        rate = excluded_rate(min(n, bound.cases), bound.confidence)
        reason = f"no counterexample in {n} cases; a failure rate above {rate:.2%} is excluded"
        return Judgement(Outcome.SURVIVED, reason, n, 0, excluded_rate=rate)

    def caught(self, observations: Sequence[Observation], bound: "Bound") -> bool:  # noqa: ARG002
        """A fault is caught by a counterexample."""
        return any(map(self.refutes, observations))

    def figure(self, judgement: Judgement, bound: "Bound") -> str:
        """Counterexamples, cases, and the failure rate that they exclude."""
        tried = f"{judgement.violations} of {judgement.n} cases"
        if judgement.excluded_rate is None:
            return f"{tried} (planned {bound.cases})"
        return f"{tried}, rate < {judgement.excluded_rate:.1%}"


class Planned(Kind[P]):
    """A claim that is judged over independent runs, planned in advance."""

    stricter = MappingProxyType(
        {"above": "higher", "below": "lower", "within": "lower", "confidence": "higher", "runs": "higher"}
    )

    @abstractmethod
    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:
        """The cases of `runs` independent runs."""

    def uncatchable(
        self,
        observations: Sequence[Observation],  # noqa: ARG002 (for subclasses)
        bound: "Bound",  # noqa: ARG002 (for subclasses)
        left: int,  # noqa: ARG002 (for subclasses)
    ) -> bool:
        """Whether a fault stays uncaught whatever `left` more runs give: then they are not made."""
        return False


class Measured(Planned[P]):
    """A claim about a quantity: the median of independent runs lies above (or below) a bound."""

    bound_fields = frozenset({"of", "statistic", "above", "below", "confidence", "runs", "testbeds"})

    @abstractmethod
    def measure(self, observation: Observation) -> float:
        """The figure of one run, in the bound's base unit."""

    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """Compare an exact order-statistic interval of the median with the bound."""
        assert bound.runs is not None
        assert bound.statistic is not None
        samples = [self.measure(observation) for observation in observations]
        bad = sum(not _within(sample, bound) for sample in samples)
        if not all(map(math.isfinite, samples)):
            reason = f"{sum(not math.isfinite(each) for each in samples)} runs gave no finite figure"
            return Judgement(Outcome.INCONCLUSIVE, reason, len(samples), bad, unit=bound.unit)
        interval = order_statistic_interval(samples, quantile_of(bound.statistic), bound.confidence)
        if len(samples) < bound.runs or interval is None:
            reason = f"{len(samples)} runs of {bound.runs} planned"
            return Judgement(Outcome.INCONCLUSIVE, reason, len(samples), bad, unit=bound.unit)
        ends = (interval.lower, interval.upper)
        inside = [_within(end, bound) for end in ends]
        if all(inside):
            outcome, relation = Outcome.SURVIVED, "is on the claimed side of"
        elif not any(inside):
            outcome, relation = Outcome.FALSIFIED, "is on the wrong side of"
        else:
            outcome, relation = Outcome.INCONCLUSIVE, "straddles"
        reason = f"the median's interval [{ends[0]:.4g}, {ends[1]:.4g}] {bound.unit} {relation} the bound"
        return Judgement(outcome, reason, len(samples), bad, _median(samples), ends[0], ends[1], bound.unit)

    def caught(self, observations: Sequence[Observation], bound: "Bound") -> bool:
        """A fault is caught once so many runs violate the bound that the planned ones cannot survive.

        Survival needs the order statistic at one end of the interval inside the bound; that end is
        the k-th smallest of `runs` samples, so k violations settle it.
        """
        return self._lacking(observations, bound) <= 0

    def uncatchable(self, observations: Sequence[Observation], bound: "Bound", left: int) -> bool:
        """It is, where even all runs that are left are too few."""
        return self._lacking(observations, bound) > left

    def _lacking(self, observations: Sequence[Observation], bound: "Bound") -> float:
        """How many more runs have to violate the bound before a fault is caught."""
        assert bound.runs is not None
        assert bound.statistic is not None
        interval = order_statistic_interval(
            list(range(bound.runs)), quantile_of(bound.statistic), bound.confidence
        )
        if interval is None:
            return math.inf
        needed = interval.k_lower if bound.above is not None else bound.runs - interval.k_upper + 1
        return needed - sum(not _within(self.measure(each), bound) for each in observations)

    def figure(self, judgement: Judgement, bound: "Bound") -> str:
        """The end of the interval that counts, against the bound."""
        limit, sign = (bound.above, "≥") if bound.above is not None else (bound.below, "≤")
        end = judgement.lower if bound.above is not None else judgement.upper
        if end is None:
            return f"{judgement.n} runs of {bound.runs} ({sign} {_written(limit, bound.unit)})"
        figure = f"{end:.4g}" if bound.unit != "%" else f"{100 * end:.3g}"
        return f"{figure} {sign} {_written(limit, bound.unit)}"

    def drawn(self, observations: Sequence[Observation], judgement: Judgement) -> Drawn:
        """The figure of every run and the median's interval."""
        figures = [self.measure(observation) for observation in observations]
        if judgement.lower is None or judgement.upper is None:
            return Drawn(figures, "run")
        return Drawn(figures, "run", "median", (judgement.lower, judgement.upper))


def _written(limit: float | None, unit: str | None) -> str:
    """A threshold with its unit; what is kept as a fraction is told in percent."""
    assert limit is not None
    return f"{100 * limit:g} %" if unit == "%" else f"{limit:g} {unit}"


def _within(value: float, bound: "Bound") -> bool:
    if bound.above is not None:
        return math.isfinite(value) and value >= bound.above
    assert bound.below is not None
    return math.isfinite(value) and value <= bound.below


def _median(samples: Sequence[float]) -> float:
    ordered = sorted(samples)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
