"""A walk: steps on sequences, done one by one in an engine, then compared with its twin's one prefill.

Logits of a causal model do not depend on what follows: one prefill without the cache, of each longest list
of tokens that was ever held, tells the twin's logits after every step.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from refute.targets.base import Target
from refute.targets.scores import Scores, Session

if TYPE_CHECKING:
    import numpy as np

OPERATIONS = ("extend", "decode", "fork", "trim", "stop", "close")
_SPARE = 8  # tokens that a generation may give beyond those after which it is stopped
Step = Mapping[str, Any]


@dataclass(slots=True)
class _Sequence:
    """What one sequence holds. choices: per token, the greedy one after it; experts: per token (L, K)."""

    session: Session
    tokens: list[int] = field(default_factory=list)
    choices: list[int] = field(default_factory=list)
    experts: "list[np.ndarray]" = field(default_factory=list)

    def fork(self) -> "_Sequence":
        return _Sequence(self.session.fork(), [*self.tokens], [*self.choices], [*self.experts])

    def trim(self, length: int) -> None:
        self.session.trim(length)
        for held in (self.tokens, self.choices, self.experts):
            del held[length:]


@dataclass(frozen=True, slots=True)
class _Done:
    """One step that ran forwards: all tokens that the sequence then held, and its logits from `start` on."""

    step: int
    start: int
    tokens: tuple[int, ...]
    logits: "np.ndarray"  # (T, V), T = len(tokens) - start
    experts: "tuple[np.ndarray, ...]"  # per token (L, K); empty without routing


class Walk:
    """One case on its way through the engine."""

    def __init__(self, target: Target, steps: Sequence[Step], *, tokens: int, threads: int) -> None:
        self.target = target
        self.steps = steps
        self.routing = "routing" in target.capabilities
        self.threads = threads if threads > 1 else None
        stops = sum(step["do"] == "stop" for step in steps)
        # An engine that computes on after a stop must find room for it: going on wrongly is what refutes it.
        self.capacity = min(tokens + stops * _SPARE, target.identity.context)
        self.open: dict[int, _Sequence] = {}
        self.done: list[_Done] = []
        self.finite = True  # all logits so far

    def do(self, index: int) -> None:
        """One step. Raises ValueError for one that does not fit those before it.

        None is done after a logit that is no finite number: it refutes, and no engine generates from it.
        """
        if not self.finite:
            return
        step = self.steps[index]
        on = step["on"]
        if step["do"] != "extend" and on not in self.open:
            raise ValueError(f"step {index} is {step['do']} on sequence {on}, which is not open")
        match step["do"]:
            case "extend":
                if on not in self.open:
                    self.open[on] = _Sequence(self._session(index))
                self._forwards(index, [step["tokens"]])
            case "decode":
                self._forwards(index, [None] * step["count"])
            case "fork":
                self.open[step["to"]] = self.open[on].fork()
            case "trim":
                self.open[on].trim(step["length"])
            case "stop":
                self._stop(self.open[on], step["count"])
            case "close":
                del self.open[on]
            case other:
                raise ValueError(f"step {index} is {other!r}, expected one of {', '.join(OPERATIONS)}")

    def _session(self, index: int) -> Session:
        """Open a sequence whose prompt is what extends it before anything else happens to it."""
        on = self.steps[index]["on"]
        prompt = 0
        for step in self.steps[index:]:
            if on in (step["on"], step.get("to")):
                if step["do"] != "extend":
                    break
                prompt += len(step["tokens"])
        return self.target.session(self.capacity, prompt=prompt, threads=self.threads)

    def _stop(self, sequence: _Sequence, count: int) -> None:
        """Let the engine generate by itself and stop it; only the forwards that follow tell what it left."""
        token, room = sequence.choices[-1], self.capacity - len(sequence.tokens) - 1
        given = sequence.session.stop(token, after=count, of=min(count + _SPARE, room), routing=self.routing)
        sequence.tokens += [token, *given.tokens[:-1]]
        sequence.choices += given.tokens
        sequence.experts.extend(() if given.experts is None else given.experts)

    def _forwards(self, index: int, pieces: Sequence[Sequence[int] | None]) -> None:
        """Run forwards, each of the tokens given or of the greedy one."""
        import numpy as np  # noqa: PLC0415 (keeps NumPy out of collection)

        sequence = self.open[self.steps[index]["on"]]
        start, parts = len(sequence.tokens), []
        for piece in pieces:
            tokens = [sequence.choices[-1]] if piece is None else piece
            scores = sequence.session.extend(tokens, routing=self.routing)
            sequence.tokens += tokens
            sequence.choices += scores.logits.argmax(axis=-1).tolist()
            sequence.experts.extend(() if scores.experts is None else scores.experts)
            parts.append(scores.logits)
            self.finite = self.finite and bool(np.isfinite(scores.logits).all())
        held = tuple(sequence.tokens)
        self.done.append(_Done(index, start, held, np.concatenate(parts), tuple(sequence.experts)))

    def samples(self) -> dict[str, Any]:
        """Per step the largest error of a logit, up to the first token with other experts and from it on."""
        twins = {tokens: self._twin(tokens) for tokens in _longest([done.tokens for done in self.done])}
        steps = []
        for done in self.done:
            whole = next(tokens for tokens in twins if tokens[: len(done.tokens)] == done.tokens)
            steps.append(_compared(done, twins[whole]))
        return {
            "steps": steps,
            "compared": sum(len(done.logits) for done in self.done),
            "twins": len(twins),
            "tokens": [list(tokens) for tokens in twins],
        }

    def _twin(self, tokens: Sequence[int]) -> Scores:
        threads = None if self.threads is None else 1
        session = self.target.session(len(tokens), prompt=len(tokens), cache=False, threads=threads)
        return session.extend(tokens, routing=self.routing)


def _longest(held: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """Those that are not the start of another one, each once."""
    ordered = sorted(set(held))
    for tokens, following in zip(ordered, [*ordered[1:], ()], strict=True):
        if following[: len(tokens)] != tokens:
            yield tokens


def _compared(done: _Done, twin: Scores) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415 (keeps NumPy out of collection)

    end = len(done.tokens)
    theirs = twin.logits[done.start : end]
    with np.errstate(invalid="ignore"):  # infinities: their difference is a number of neither arm
        errors = np.abs(done.logits.astype(np.float64) - theirs).max(axis=-1)  # (T,)
    first, flip = end, None
    if done.experts and twin.experts is not None and twin.gaps is not None:
        other = (np.stack(done.experts) != twin.experts[:end]).any(axis=-1)  # (end, L)
        if other.any():
            first, layer = (int(each) for each in np.argwhere(other)[0])
            later = errors[max(first - done.start, 0) :]
            flip = {
                "position": first,
                "layer": layer,
                "gap": float(twin.gaps[first, layer]),
                "error": _largest(later),
            }
    before = errors[: max(first - done.start, 0)]
    return {"step": done.step, "start": done.start, "end": end, "error": _largest(before), "flip": flip}


def _largest(errors: "np.ndarray") -> float | None:
    """The largest of none or more errors; None where one is not finite, which JSON cannot hold."""
    import numpy as np  # noqa: PLC0415 (keeps NumPy out of collection)

    if not np.isfinite(errors).all():
        return None
    return float(errors.max(initial=0.0))
