"""A kind of attack: observe, refute or measure, judge.

`observe` drives the engine for one case and holds no opinion. `refutes` and `measure` look at one
observation, `judge` at all of them; all three are pure, so that the record can be judged again by anyone.
Everything in a case and in samples is what `json` can hold, and survives a round trip unchanged.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from refute.targets.base import Target
from refute.verdict import Judgement

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


class Kind(ABC, Generic[P]):
    """A family of attacks. `parameters` is the frozen dataclass that the contract's `with` fills.

    name: as contracts write it. rule_version: changes whenever `judge` can judge the same samples
    otherwise. requires: capabilities without which the kind does not apply. timing: samples are
    times, so nothing else may run beside it.
    """

    name: ClassVar[str]
    rule_version: ClassVar[str]
    requires: ClassVar[frozenset[str]]
    parameters_type: ClassVar[type]
    timing: ClassVar[bool] = False

    def __init__(self, parameters: P) -> None:
        self.parameters = parameters

    @abstractmethod
    def observe(self, target: Target, case: Case) -> Observation:
        """Drive the engine for one case."""

    @abstractmethod
    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """Judge stored observations; pure and deterministic."""

    @abstractmethod
    def caught(self, observations: Sequence[Observation], bound: "Bound") -> bool:
        """Whether these observations, taken under a fault, already rule a green verdict out."""

    def figure(self, judgement: Judgement, bound: "Bound") -> str:
        """Say figure against bound in one short phrase, for tables."""
        raise NotImplementedError


class Searched(Kind[P]):
    """A claim that one counterexample refutes; cases come from a Hypothesis strategy and shrink."""

    @abstractmethod
    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Cases that fit this target."""

    @abstractmethod
    def refutes(self, observation: Observation) -> bool:
        """Whether this one case contradicts the claim."""


class Measured(Kind[P]):
    """A claim about a quantity; independent runs of planned cases."""

    @abstractmethod
    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:
        """The cases of `runs` independent runs."""

    @abstractmethod
    def measure(self, observation: Observation) -> float:
        """The figure of one run, in the bound's base unit."""
