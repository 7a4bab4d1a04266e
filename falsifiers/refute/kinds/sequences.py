"""Sequence equivalence: whatever was done to sequences before, their logits are those of a fresh prefill.

A case is a list of steps on up to so many sequences: extend one by a chunk, decode greedily, fork it, trim
it, let the engine generate over it and stop that midway, close it. A sequence that another step leaves alone
is resumed when a later one names it. The steps are data, so a case is stored, shrunk and replayed like any
other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Observation, Searched
from refute.kinds.cases import pieces
from refute.kinds.parameters import in_unit, several, whole_number, within
from refute.kinds.walk import OPERATIONS, Step, Walk
from refute.targets.base import Target
from refute.units import parse_quantity

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_FORWARDS = ("extend", "decode")
_LARGEST_PIECE = 12  # tokens of one step


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceParameters:
    """What a case may be made of.

    operations: which of `OPERATIONS`. steps, sequences, tokens: at most so many steps of a case, sequences at
    a time, tokens in one. threads: how many compute; the twin has one. tolerance: how far a logit may be off;
    without it, not by one bit. gap: router probabilities closer than this are a tie, after which other
    experts, and so other logits, say nothing.
    """

    operations: tuple[str, ...]
    steps: int
    sequences: int
    tokens: int
    gap: str
    tolerance: str | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "sequences", "threads"):
            whole_number(name, getattr(self, name), 1)
        whole_number("tokens", self.tokens, 2)
        in_unit("gap", self.gap, "%")
        if self.tolerance is not None:
            in_unit("tolerance", self.tolerance, "logit")
        chosen = several("operations", self.operations)
        object.__setattr__(self, "operations", chosen)
        known = all(name in OPERATIONS for name in chosen)
        if "extend" not in chosen or not known or len(set(chosen)) != len(chosen):
            raise ValueError(
                f"operations is {list(chosen)}, expected extend, and any of {', '.join(OPERATIONS[1:])}"
            )
        if "fork" in chosen and self.sequences < 2:
            raise ValueError(f"sequences is {self.sequences}, expected at least 2: a fork is one more")


class SequenceEquivalence(Searched[SequenceParameters]):
    """After every step the logits of a sequence equal those of a fresh prefill of its tokens."""

    name = "sequence-equivalence"
    rule_version = "1"
    requires = frozenset({"token_ids", "cache_off", "sessions"})
    parameters_type = SequenceParameters
    stricter = MappingProxyType(
        {
            **Searched.stricter,
            "steps": "higher",
            "sequences": "higher",
            "tokens": "higher",
            "tolerance": "lower",
            "gap": "lower",
        }
    )

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Lists of steps that do what this falsifier is about."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        parameters = self.parameters
        limit = min(parameters.tokens, target.identity.context)
        piece = pieces(target, 1, min(_LARGEST_PIECE, limit))
        on = {"on": st.integers(0, parameters.sequences - 1)}
        few = st.integers(1, 4)
        steps = {
            "extend": st.fixed_dictionaries({"do": st.just("extend"), **on, "tokens": piece}),
            "decode": st.fixed_dictionaries({"do": st.just("decode"), **on, "count": few}),
            "fork": st.permutations(range(parameters.sequences)).map(
                lambda order: {"do": "fork", "on": order[0], "to": order[1]}
            ),
            "trim": st.fixed_dictionaries({"do": st.just("trim"), **on, "drop": few}),
            "stop": st.fixed_dictionaries({"do": st.just("stop"), **on, "count": few}),
            "close": st.fixed_dictionaries({"do": st.just("close"), **on}),
        }
        alone = st.one_of(*(steps[name] for name in parameters.operations if name in _FORWARDS))
        some = alone.map(lambda step: [step])
        for name in parameters.operations:
            if name in _FORWARDS:
                continue
            fewest = 3 if name == "fork" else 1  # so that each of the two goes on after the other one did
            some |= st.tuples(steps[name], st.lists(alone, min_size=fewest, max_size=3)).map(_after)
        return (
            st.tuples(steps["extend"], st.lists(some, min_size=1, max_size=parameters.steps - 1))
            .map(lambda drawn: {"steps": effective([drawn[0], *chain(*drawn[1])], parameters.steps, limit)})
            .filter(lambda case: self._tells(case["steps"]))
        )

    def observe(self, target: Target, case: Case) -> Observation:
        """Do the steps one by one, then ask the twin for the logits after each."""
        walk = Walk(target, case["steps"], tokens=self.parameters.tokens, threads=self.parameters.threads)
        for index in range(len(case["steps"])):
            walk.do(index)
        return Observation(case, walk.samples())

    def refutes(self, observation: Observation) -> bool:
        """A logit off by more than the tolerance refutes; after experts that differ by a tie, none does."""
        gap = parse_quantity(self.parameters.gap).value
        for done in observation.samples["steps"]:
            if self._off(done["error"]):
                return True
            flip = done["flip"]
            if flip is not None and flip["gap"] > gap and self._off(flip["error"]):
                return True
        return False

    def informative(self, observation: Observation) -> bool:
        """A case counts when logits were compared after what this falsifier is about."""
        return observation.samples["compared"] > 0 and self._tells(observation.case["steps"])

    def _off(self, error: float | None) -> bool:
        """Whether a logit is off; None is a logit that is not finite, or not finite in one arm only."""
        tolerance = self.parameters.tolerance
        return not within(error, 0.0 if tolerance is None else parse_quantity(tolerance).value)

    def _tells(self, steps: Sequence[Step]) -> bool:
        """Whether a forward goes on after one of the operations in question.

        That is a forward of a sequence that was trimmed or stopped; of any after one was closed; of a fork
        or its origin that ran before the other one did; without these operations, of a sequence that holds
        tokens, after another one ran where there are several.
        """
        special = set(self.parameters.operations) - set(_FORWARDS)
        held: set[int] = set()
        cut: set[int] = set()  # trimmed or stopped
        forks: dict[frozenset[int], list[int]] = {}  # which of the two ran, without repetitions
        closed, last = False, None
        for step in steps:
            on = step["on"]
            match step["do"]:
                case "fork":
                    forks = {pair: ran for pair, ran in forks.items() if step["to"] not in pair}
                    forks[frozenset({on, step["to"]})] = []
                    held.add(step["to"])
                case "trim" | "stop":
                    cut.add(on)
                case "close":
                    closed = True
                    held.discard(on)
                    cut.discard(on)
                    forks = {pair: ran for pair, ran in forks.items() if on not in pair}
                case _:
                    for pair, ran in forks.items():
                        if on in pair and ran[-1:] != [on]:
                            ran.append(on)
                    if special:
                        told = closed or on in cut or any(len(ran) > 2 for ran in forks.values())
                    else:
                        resumed = on in held and (self.parameters.sequences == 1 or last != on)
                        told = resumed or self.parameters.threads > 1
                    if told:
                        return True
                    held.add(on)
                    last = on
        return False


def _after(drawn: tuple[dict[str, Any], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A special step and forwards that follow it: of a fork and its origin by turns, else of its sequence."""
    step, forwards = drawn
    turns = [step["on"], step.get("to", step["on"])]
    return [step, *({**each, "on": turns[place % 2]} for place, each in enumerate(forwards))]


def effective(steps: Sequence[Step], most: int, limit: int) -> list[dict[str, Any]]:
    """Leave out steps that do nothing and those after the first `most`; cut sequences at `limit` tokens."""
    lengths: dict[int, int] = {}
    kept: list[dict[str, Any]] = []
    for step in steps:
        on, do = step["on"], step["do"]
        length = lengths.get(on)
        if do == "extend":
            tokens = step["tokens"][: limit - (length or 0)]
            if tokens:
                lengths[on] = (length or 0) + len(tokens)
                kept.append({"do": do, "on": on, "tokens": tokens})
        elif do == "decode" and length:
            count = min(step["count"], limit - length)
            if count:
                lengths[on] = length + count
                kept.append({"do": do, "on": on, "count": count})
        elif do == "trim" and length:
            lengths[on] = max(length - step["drop"], 0)
            kept.append({"do": do, "on": on, "length": lengths[on]})
        elif do == "stop" and length:
            count = min(step["count"], limit - length - 2)  # one more could be computed, else it is no stop
            if count > 0:
                lengths[on] = length + count
                kept.append({"do": do, "on": on, "count": count})
        elif do == "fork" and length is not None and step["to"] != on:
            lengths[step["to"]] = length
            kept.append({"do": do, "on": on, "to": step["to"]})
        elif do == "close" and length is not None:
            del lengths[on]
            kept.append({"do": do, "on": on})
    del kept[most:]
    while kept and kept[-1]["do"] not in _FORWARDS:
        kept.pop()
    return kept
