"""Refusals on hand-made replies, and every bad request of the table against the simulated server."""

import json
from typing import Any

import pytest
from wire_replies import DONE, ROLE, delta, reply, stream, whole

from refute.kinds.base import Observation
from refute.kinds.wire_refusals import BAD_REQUESTS, Bad, ContextRefusal, Longer, RefusalForm, _case
from refute.targets.fake import FakeTarget

REFUSALS = RefusalForm(Bad())
CONTEXT = ContextRefusal(Longer(max_tokens=8, beyond=8))
ERROR = {"message": "no", "type": "invalid_request_error", "param": None, "code": None}


def refused(error: Any = ERROR, status: int = 400, **how: Any) -> Any:
    return reply(json.dumps({"error": error}), status, **how)


SERVED = whole("apple")


def wrong(answer: Any, right: Any = SERVED) -> str | None:
    return REFUSALS.wrong(Observation({"bad": "no-json"}, {"reply": answer, "right": right}))


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_refusal_with_an_error_object_does_not_refute(status: int) -> None:
    assert wrong(refused(status=status)) is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (refused(status=200), "status 200"),
        (refused(status=500), "status 500"),
        (reply("refused", 400, "text/plain"), "'text/plain'"),
        (reply("refused", 400), "expected JSON"),
        (refused("refused"), "$.error"),
        (refused({**ERROR, "code": 400}), "$.error.code"),
        (refused({"message": "no", "type": "t", "code": None}), "'param' is a required property"),
        (refused({**ERROR, "message": ""}), "$.error.message"),
        (stream(ROLE, delta("stop"), DONE), "status 200"),
        (stream({"error": ERROR}, status=400), "text/event-stream"),
    ],
)
def test_any_other_answer_refutes(answer: Any, why: str) -> None:
    assert why in (wrong(answer) or "")


def test_a_connection_that_breaks_refutes() -> None:
    assert wrong(stream(status=400, broken="the connection broke")) == "no-json: the connection broke"


def test_a_server_that_refuses_everything_refutes() -> None:
    nothing = refused(status=401)
    assert "a request with nothing wrong: status 401" in (wrong(nothing, nothing) or "")
    assert "a request with nothing wrong: status 400" in (CONTEXT.wrong(longer(refused(), refused())) or "")


@pytest.fixture(scope="module")
def fake() -> FakeTarget:
    return FakeTarget()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("bad", BAD_REQUESTS)
def test_the_simulated_server_refuses_every_bad_request(fake: FakeTarget, bad: str, streamed: bool) -> None:
    observation = REFUSALS.observe(fake, {**_case(bad, streamed), "bad_first": True})
    assert REFUSALS.wrong(observation) is None


@pytest.mark.parametrize("requests", [(), ("no-such-request",)])
def test_a_bad_request_that_is_not_in_the_table_cannot_be_asked_for(requests: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected some of no-json"):
        Bad(requests=requests)


def longer(answer: Any, right: Any = SERVED, *, context: int = 16, times: int = 20) -> Observation:
    return Observation({"times": times}, {"reply": answer, "right": right, "context": context})


def test_a_prompt_longer_than_the_context_must_be_refused_with_400() -> None:
    assert CONTEXT.wrong(longer(refused())) is None
    assert "status 413, expected 400" in (CONTEXT.wrong(longer(refused(status=413))) or "")
    assert "status 200" in (CONTEXT.wrong(longer(refused(status=200))) or "")
    assert CONTEXT.informative(longer(refused()))


@pytest.mark.parametrize("observation", [longer(refused(), context=0), longer(refused(), times=16)])
def test_a_context_that_is_unknown_or_long_enough_says_nothing(observation: Observation) -> None:
    assert not CONTEXT.informative(observation)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_simulated_server_refuses_a_prompt_that_is_too_long(fake: FakeTarget, streamed: bool) -> None:
    times = fake.identity.context + 1
    case = {"word": "a", "times": times, "max_tokens": 1, "stream": streamed, "long_first": streamed}
    observation = CONTEXT.observe(fake, case)
    assert (CONTEXT.wrong(observation), CONTEXT.informative(observation)) == (None, True)
