"""Recall: a needle in a haystack. Facts are hidden in a page of filler, each is asked for.

What is judged is what the model says, by exact bounds of a probability. The page is computed once and every
question goes on from a fork of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from refute.kinds.base import Case, Drawn, Observation, Planned
from refute.kinds.haystack import Needle, most_needles, page
from refute.kinds.parameters import several, whole_number
from refute.statistics import binomial_interval
from refute.targets.base import Target
from refute.targets.scores import Session
from refute.verdict import Judgement, Outcome

if TYPE_CHECKING:
    from refute.contract import Bound


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedleParameters:
    """prompt_tokens: tokens of filler in a page, a page of each in turn. depths: where in the page facts
    stand, 0 its beginning and 1 its end. needles: facts at each depth. answer_tokens: the value must come
    within so many.
    """

    prompt_tokens: tuple[int, ...]
    depths: tuple[float, ...]
    needles: int
    answer_tokens: int

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "depths"):
            values = several(name, getattr(self, name))
            object.__setattr__(self, name, values)
            if not values or any(value in values[:index] for index, value in enumerate(values)):
                raise ValueError(f"{name} is {list(values)}, expected one or more different values")
        for length in self.prompt_tokens:
            whole_number("prompt_tokens", length, 1)
        for depth in self.depths:
            if isinstance(depth, bool) or not isinstance(depth, int | float) or not 0 <= depth <= 1:
                raise ValueError(f"depths has {depth!r}, expected numbers from 0 to 1")
        whole_number("needles", self.needles, 1)
        whole_number("answer_tokens", self.answer_tokens, 1)
        if self.needles * len(self.depths) > most_needles():
            raise ValueError(f"needles is {self.needles}, expected at most {most_needles()} in one page")


class NeedleRecall(Planned[NeedleParameters]):
    """A fact is recalled at every length of page and every depth.

    Each (length, depth) is a cell with an exact binomial bound of its own. Given the filler, the facts of a
    page are independent draws; that they stand at different lines only makes the bound safer (Hoeffding
    1956). What it takes for granted is that one fact does not change the answer about another, which
    holds only roughly: with many facts that look alike in a page, fewer are recalled. Few needles are safer.
    """

    name = "needle-recall"
    rule_version = "1"
    requires = frozenset({"token_ids", "chat", "sessions"})
    parameters_type = NeedleParameters
    bound_fields = frozenset({"of", "above", "confidence", "runs"})
    unit = "%"
    stricter = MappingProxyType({**Planned.stricter, "answer_tokens": "lower"})

    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:
        """Another page for every run, the lengths in turn."""
        asked = self.parameters
        cases = []
        for run in range(runs):
            length = asked.prompt_tokens[run % len(asked.prompt_tokens)]
            text, needles = page(
                length, asked.depths, asked.needles, lambda text: len(target.encode(text)), seed + run
            )
            facts = [{"key": each.key, "value": each.value, "depth": each.depth} for each in needles]
            cases.append({"run": run, "prompt_tokens": length, "page": text, "needles": facts})
        return cases

    def observe(self, target: Target, case: Case) -> Observation:
        """Compute what all questions about the page begin with, once; ask each one from there."""
        needles = [Needle(**fact) for fact in case["needles"]]
        prompts = [
            target.encode_chat([{"role": "user", "content": f"{case['page']}\n{needle.question}"}])
            for needle in needles
        ]
        shared = _shared(prompts)
        longest = max(map(len, prompts)) + self.parameters.answer_tokens
        session = target.session(longest, prompt=shared)
        session.extend(prompts[0][:shared])
        answers = []
        for needle, prompt in zip(needles, prompts, strict=True):
            said = self._ask(target, session.fork(), prompt[shared:], needle.value)
            after = case["page"].partition(needle.line)[2] + f"\n{needle.question}"
            back = len(target.encode(after))  # tokens from the fact to the end of the question
            answers.append({"depth": needle.depth, "back": back, "said": said})
        return Observation(case, {"tokens": longest, "answers": answers})

    def _ask(self, target: Target, session: Session, rest: Sequence[int], value: str) -> str:
        """Answer greedily until the value has come or the tokens are used up."""
        said: list[int] = []
        new = rest
        while len(said) < self.parameters.answer_tokens:
            said.append(int(session.extend(new).logits[-1].argmax()))
            new = said[-1:]
            if value in target.decode(said):
                break
        return target.decode(said)

    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """Every cell's lower bound must reach the claim; one cell's upper bound below it refutes.

        All cells have to pass, so each is held to the confidence itself; any may refute, so they share it.
        """
        assert bound.above is not None
        assert bound.runs is not None
        cells = self._cells(observations)
        n = sum(asked for _, asked in cells.values())
        wrong = n - sum(right for right, _ in cells.values())
        if len(observations) < bound.runs or not all(asked for _, asked in cells.values()):
            reason = f"{len(observations)} pages of {bound.runs} planned"
            return Judgement(Outcome.INCONCLUSIVE, reason, n, wrong, unit="%")
        miss = 1 - bound.confidence
        lowers = {cell: _interval(*counts, miss)[0] for cell, counts in cells.items()}
        uppers = {cell: _interval(*counts, miss / len(cells))[1] for cell, counts in cells.items()}
        worst, best = min(lowers, key=lowers.__getitem__), min(uppers, key=uppers.__getitem__)
        right, asked = cells[worst]
        where = f"{worst[0]} tokens, depth {worst[1]:g}: {right} of {asked} recalled"
        ends = (right / asked, lowers[worst], uppers[best])
        if uppers[best] < bound.above:
            reason = f"{where}, fewer than {bound.above:.0%}"
            return Judgement(Outcome.FALSIFIED, reason, n, wrong, *ends, unit="%")
        if lowers[worst] < bound.above:
            reason = f"{where}, which only shows {lowers[worst]:.1%}"
            return Judgement(Outcome.INCONCLUSIVE, reason, n, wrong, *ends, unit="%")
        reason = f"{n - wrong} of {n} recalled; worst at {where}, at least {lowers[worst]:.1%}"
        return Judgement(Outcome.SURVIVED, reason, n, wrong, *ends, unit="%")

    def caught(self, observations: Sequence[Observation], bound: "Bound") -> bool:
        """A fault is caught once a cell has so many misses that the planned questions cannot survive."""
        assert bound.above is not None
        assert bound.runs is not None
        lengths = self.parameters.prompt_tokens
        for (length, _), (right, asked) in self._cells(observations).items():
            pages = len(range(lengths.index(length), bound.runs, len(lengths)))
            planned = pages * self.parameters.needles
            at_best = planned - (asked - right)
            if planned and _interval(at_best, planned, 1 - bound.confidence)[0] < bound.above:
                return True
        return False

    def figure(self, judgement: Judgement, bound: "Bound") -> str:
        """The lower bound of the worst cell, against the claim."""
        if judgement.lower is None:
            return f"{judgement.n} questions (≥ {bound.above:.0%})"
        right = judgement.n - judgement.violations
        return f"{right} of {judgement.n}, worst ≥ {judgement.lower:.0%} (≥ {bound.above:.0%})"

    def drawn(self, observations: Sequence[Observation], judgement: Judgement) -> Drawn:  # noqa: ARG002
        """The share that was recalled in every cell (length and depth) that was asked."""
        cells = self._cells(observations).values()
        return Drawn([right / asked for right, asked in cells if asked], "cell")

    def _cells(self, observations: Sequence[Observation]) -> dict[tuple[int, float], tuple[int, int]]:
        """Facts recalled and facts asked for, by length and depth; cells that were not asked have 0 of 0."""
        cells = {
            (length, float(depth)): (0, 0)
            for length in self.parameters.prompt_tokens
            for depth in self.parameters.depths
        }
        for observation in observations:
            case = observation.case
            for needle, answer in zip(case["needles"], observation.samples["answers"], strict=True):
                cell = (case["prompt_tokens"], float(needle["depth"]))
                right, asked = cells[cell]
                cells[cell] = (right + (needle["value"] in answer["said"]), asked + 1)
        return cells


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; each keeps one of its own at least."""
    shared, least = 0, min(map(len, prompts)) - 1
    while shared < least and len({prompt[shared] for prompt in prompts}) == 1:
        shared += 1
    return shared


def _interval(right: int, asked: int, miss: float) -> tuple[float, float]:
    """Bounds of a probability after `right` of `asked`, each wrong with a probability of at most `miss`."""
    return binomial_interval(right, asked, round(1 - 2 * miss, 12)) if right >= 0 else (0.0, 0.0)
