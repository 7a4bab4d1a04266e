"""Long contexts: decoding at far positions is exact, the limit is kept. Whether it recalls is in `recall`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Drawn, Observation, Planned, Searched
from refute.kinds.cases import some_prompt
from refute.kinds.haystack import page
from refute.kinds.parameters import several, whole_number, within
from refute.statistics import excluded_rate
from refute.targets.base import Refusal, Request, Target, TargetError
from refute.verdict import Judgement, Outcome

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from refute.contract import Bound

_CHUNK = 512  # tokens of one forward where a long prompt is computed over the cache


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
