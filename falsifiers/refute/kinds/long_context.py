"""Long contexts: facts are recalled from far back, decoding at far positions is exact, the limit is kept.

Recall is asked as a needle in a haystack: facts are hidden in a page of filler, each is asked for. The page
is computed once and every question goes on from a fork of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Drawn, Observation, Planned, Searched
from refute.kinds.cases import some_prompt
from refute.kinds.haystack import Needle, most_needles, page
from refute.kinds.parameters import several, whole_number, within
from refute.statistics import binomial_interval, excluded_rate
from refute.targets.base import Refusal, Request, Target, TargetError
from refute.targets.scores import Session
from refute.verdict import Judgement, Outcome

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from refute.contract import Bound

_CHUNK = 512  # tokens of one forward where a long prompt is computed over the cache


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FarParameters:
    """positions: where the last decoded token stands, a run of each in turn; none is beyond the context.
    decoded: tokens decoded one by one up to there.
    """

    positions: tuple[int, ...]
    decoded: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", several("positions", self.positions))
        whole_number("decoded", self.decoded, 1)
        if not self.positions:
            raise ValueError("positions is [], expected one or more")
        for position in self.positions:
            whole_number("positions", position, self.decoded + 1)


class FarEquivalence(Planned[FarParameters]):
    """Decoding over the cache at far positions gives the logits of one full prefill."""

    name = "far-equivalence"
    rule_version = "1"
    requires = frozenset({"token_ids", "sessions", "cache_off", "logits"})
    parameters_type = FarParameters
    bound_fields = frozenset({"of", "within", "confidence", "runs"})
    unit = "logit"
    stricter = MappingProxyType({**Planned.stricter, "decoded": "higher"})

    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:
        """Another text for every run, the positions in turn; a context that is shorter ends them earlier."""
        positions, context = self.parameters.positions, target.identity.context
        lengths = [min(positions[run % len(positions)], context) for run in range(runs)]
        return [
            {
                "run": run,
                "tokens": some_prompt(target, length, seed + run),
                "decoded": self.parameters.decoded,
            }
            for run, length in enumerate(lengths)
        ]

    def observe(self, target: Target, case: Case) -> Observation:
        """Give both arms the same tokens; keep, per decoded position, how far apart their logits are."""
        import numpy as np  # noqa: PLC0415 (keeps NumPy out of collection)

        tokens, decoded = case["tokens"], case["decoded"]
        start = len(tokens) - decoded
        session = target.session(len(tokens), prompt=start)
        for first in range(0, start, _CHUNK):
            session.extend(tokens[first : min(first + _CHUNK, start)])
        ours = [session.extend([token]).logits[-1] for token in tokens[start:]]
        twin = target.session(len(tokens), prompt=len(tokens), cache=False).extend(tokens).logits[start:]
        errors = [float(np.abs(mine - other).max()) for mine, other in zip(ours, twin, strict=True)]
        finite = [error if np.isfinite(error) else None for error in errors]
        return Observation(case, {"last_position": session.length, "errors": finite})

    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """One position that is further off than the bound, or not finite, refutes."""
        assert bound.runs is not None
        assert bound.within is not None
        errors = [error for each in observations for error in each.samples["errors"]]
        n, off = len(errors), sum(not within(error, bound.within) for error in errors)
        worst = max((error for error in errors if error is not None), default=None)
        if off:
            reason = f"{off} of {n} decoded positions are further off than {bound.within:g} logit"
            return Judgement(Outcome.FALSIFIED, reason, n, off, worst, upper=worst, unit="logit")
        if len(observations) < bound.runs:
            reason = f"{len(observations)} runs of {bound.runs} planned"
            return Judgement(Outcome.INCONCLUSIVE, reason, n, 0, worst, upper=worst, unit="logit")
        last = max(each.samples["last_position"] for each in observations)
        if last < max(self.parameters.positions):
            reason = f"decoded up to position {last}; {max(self.parameters.positions)} are claimed"
            return Judgement(Outcome.INCONCLUSIVE, reason, n, 0, worst, upper=worst, unit="logit")
        reason = (
            f"{n} positions up to {last} in {len(observations)} texts are off by at most {worst:.2g} logit"
        )
        rate = excluded_rate(len(observations), bound.confidence)
        return Judgement(Outcome.SURVIVED, reason, n, 0, worst, upper=worst, unit="logit", excluded_rate=rate)

    def caught(self, observations: Sequence[Observation], bound: "Bound") -> bool:
        """A fault is caught by one position that is off."""
        assert bound.within is not None
        return any(
            not within(error, bound.within) for each in observations for error in each.samples["errors"]
        )

    def figure(self, judgement: Judgement, bound: "Bound") -> str:
        """The largest error, against the bound."""
        if judgement.upper is None:
            return f"not finite ({judgement.violations} of {judgement.n})"
        return f"{judgement.upper:.2g} ≤ {bound.within:g} logit, {judgement.n} positions"

    def drawn(self, observations: Sequence[Observation], judgement: Judgement) -> Drawn:  # noqa: ARG002
        """The error of every decoded position."""
        errors = [error for each in observations for error in each.samples["errors"]]
        return Drawn([math.nan if error is None else error for error in errors], "position")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitParameters:
    """excess: up to how many positions past the context are asked for."""

    excess: int

    def __post_init__(self) -> None:
        whole_number("excess", self.excess, 1)


class ContextLimit(Searched[LimitParameters]):
    """A request that needs more positions than the context is refused; one that needs them all is served.

    One without any token of a prompt is refused too: every case asks for that as well, so that no run goes
    without. Refused: before anything is computed, with a sentence that names the context, or the prompt. That
    an answer may end early (with the value that was asked for) keeps a request for the whole context cheap.
    """

    name = "context-limit"
    rule_version = "2"
    requires = frozenset({"token_ids", "chat"})
    parameters_type = LimitParameters

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """A page with a fact, how many positions past the context it needs, what an empty prompt asks for."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        context = target.identity.context
        excess, seed = st.integers(1, self.parameters.excess), st.integers(0, 2**32 - 1)

        def asked(excess: "SearchStrategy[int]", *, long: bool) -> "SearchStrategy[dict[str, Any]]":
            return st.fixed_dictionaries(
                {
                    "seed": seed,
                    "excess": excess,
                    "long": st.just(long),
                    "context": st.just(context),
                    "after_nothing": st.integers(1, self.parameters.excess),  # tokens
                }
            )

        # An engine that runs a long prompt takes its time over it, so two of three cases have none.
        return st.one_of(asked(st.just(0), long=False), asked(excess, long=False), asked(excess, long=True))

    def observe(self, target: Target, case: Case) -> Observation:
        """Ask for both, and note whether each was served, refused, or failed on the way."""
        needed = case["context"] + case["excess"]
        if case["long"]:
            prompt = tuple(some_prompt(target, needed - 1, case["seed"]))
        else:
            text, (needle,) = page(16, [0], 1, lambda text: len(target.encode(text)), case["seed"])
            prompt = target.encode_chat([{"role": "user", "content": f"{text}\n{needle.question}"}])
        return Observation(
            case,
            {
                "needed": needed,
                "limit": _asked(target, Request(prompt, needed - len(prompt), stop=True)),
                "empty": _asked(target, Request((), case["after_nothing"], stop=True)),
            },
        )

    def refutes(self, observation: Observation) -> bool:
        """Anything but a served request within the context and a refusal that names what is wrong."""
        case, samples = observation.case, observation.samples
        if not _refused(samples["empty"], naming="prompt"):
            return True
        limit = samples["limit"]
        if case["excess"]:
            return not _refused(limit, naming=str(case["context"]))
        return bool(limit["outcome"] != "served" or limit["tokens"] < 1)


def _asked(target: Target, request: Request) -> dict[str, Any]:
    """What came of a request: served, refused, or failed on the way; what was said, how many tokens came."""
    outcome, sentence, tokens = "served", None, 0
    try:
        tokens = len(target.generate(request).tokens)
    except Refusal as refusal:
        outcome, sentence = "refused", str(refusal)
    except TargetError as error:
        outcome, sentence = "failed", str(error)
    return {"outcome": outcome, "sentence": sentence, "tokens": tokens}


def _refused(came: Mapping[str, Any], *, naming: str) -> bool:
    return came["outcome"] == "refused" and naming in came["sentence"]


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; each keeps one of its own at least."""
    shared, least = 0, min(map(len, prompts)) - 1
    while shared < least and len({prompt[shared] for prompt in prompts}) == 1:
        shared += 1
    return shared


def _interval(right: int, asked: int, miss: float) -> tuple[float, float]:
    """Bounds of a probability after `right` of `asked`, each wrong with a probability of at most `miss`."""
    return binomial_interval(right, asked, round(1 - 2 * miss, 12)) if right >= 0 else (0.0, 0.0)
