"""Log probabilities on hand-made replies: what no distribution has, or is of other text, refutes."""

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from wire_replies import DONE, ROLE, reply, stream

from refute.kinds.base import Observation
from refute.kinds.wire_logprobs import LogprobParameters, TokenLogprobs

Json = dict[str, Any]
KIND = TokenLogprobs(LogprobParameters(max_tokens=8, pieces=2, top=2, tolerance=0.01))
TOKENS = (b"a", b"\xc3", b"\xa9", b"<|end|>")


def named(token: bytes, logprob: float) -> Json:
    return {"token": token.decode("utf-8", "replace"), "logprob": logprob, "bytes": [*token]}


def told(token: bytes) -> Json:
    return {**named(token, -0.1), "top_logprobs": [named(token, -0.1), named(b"z", -3.0)]}


def answer(content: Sequence[Json], *, streamed: bool, text: str = "aé", finish: str = "stop") -> Any:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    choice = {"index": 0, "logprobs": {"content": [*content]}}
    if streamed:
        said = {"choices": [{**choice, "delta": {"content": text}, "finish_reason": None}]}
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
        return stream(ROLE, said, end, {"choices": [], "usage": usage}, DONE)
    message = {"role": "assistant", "content": text}
    choices = [{**choice, "message": message, "finish_reason": finish}]
    return reply(json.dumps({"choices": choices, "usage": usage}))


def wrong(
    content: Sequence[Json], again: Sequence[Json] | None = None, *, top: int = 2, **how: str
) -> str | None:
    case = {"sampling": {"top_logprobs": top}}
    samples = {
        "whole": answer(content, streamed=False, **how),
        "streamed": answer(content if again is None else again, streamed=True, **how),
    }
    return KIND.wrong(Observation(case, samples))


GOOD = [*map(told, TOKENS)]


def test_log_probabilities_of_every_token_do_not_refute() -> None:
    assert wrong(GOOD) is None
    assert wrong(GOOD[:-1]) is None  # the one that ended the answer is not shown
    assert wrong([*map(told, (b"a", b"b", b"c", b"d"))], text="abcd", finish="length") is None


def test_tokens_without_bytes_are_read_by_their_text() -> None:
    letters = [{**told(each), "bytes": None} for each in (b"a", b"b", b"c", b"d")]
    assert wrong(letters, text="abcd", finish="length") is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda content: content.pop(0), "tokens spell 'é'"),
        (lambda content: content.clear(), "0 log probabilities for 4 tokens"),
        (lambda content: content.append(told(b"x")), "5 log probabilities for 4 tokens"),
        (lambda content: content[0].update(bytes=[98]), "tokens spell 'bé'"),
        (lambda content: content[0].update(logprob=0.9), "above 0"),
        (lambda content: content[0].update(logprob=None), "no number"),
        (lambda content: content[0].update(logprob=-(10**400)), "no number"),
        (lambda content: content[0].update(logprob=float("nan")), "status 200"),
        (lambda content: content[0]["top_logprobs"][1].update(logprob=0.9), "above 0"),
        (lambda content: content[0].update(logprob=-3.0), "-0.1 is the highest"),
        (lambda content: content[0]["top_logprobs"].reverse(), "do not fall"),
        (lambda content: content[0].update(top_logprobs=[]), "expected up to 2"),
        (lambda content: content[0].update(top_logprobs=[named(b"a", -0.1)] * 3), "expected up to 2"),
        (lambda content: content[0].update(top_logprobs=[named(b"a", -0.1)] * 2), "add up to"),
    ],
)
def test_each_departure_refutes(change: Callable[[list[Json]], object], why: str) -> None:
    content = copy.deepcopy(GOOD)
    change(content)
    assert why in (wrong(content) or "")


def test_a_stream_that_tells_others_refutes() -> None:
    lower = copy.deepcopy(GOOD)
    for each in (lower[0], lower[0]["top_logprobs"][0]):
        each["logprob"] = -0.2
    assert "-0.1 as a whole, -0.2 as a stream" in (wrong(GOOD, lower) or "")
    assert "4 log probabilities as a whole, 3 as a stream" in (wrong(GOOD, GOOD[:-1]) or "")


def test_an_answer_that_was_not_served_refutes() -> None:
    samples = {"whole": reply("{}", 500), "streamed": answer(GOOD, streamed=True)}
    found = KIND.wrong(Observation({"sampling": {"top_logprobs": 2}}, samples))
    assert "the whole answer: status 500" in (found or "")


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), True])
def test_a_tolerance_that_makes_no_sense_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance is"):
        LogprobParameters(max_tokens=8, pieces=2, top=2, tolerance=tolerance)
