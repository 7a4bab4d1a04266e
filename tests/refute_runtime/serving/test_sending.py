"""Answers on their way: deadlines and clients that do not read, with time in the test's hands."""

import asyncio
import json

import pytest
from scripted import Scripted, said

from refute_runtime.sampling import SamplingParams
from refute_runtime.serving import sending
from refute_runtime.serving.answers import Telling
from refute_runtime.serving.jobs import Failure, Job
from refute_runtime.serving.refusals import Refusal
from refute_runtime.serving.responses import ChatShape, Writing
from refute_runtime.serving.sending import Answer, event
from refute_runtime.serving.service import Running

JOB = Job(prompt=(1,), max_tokens=9, sampling=SamplingParams())
FAR = 10_000.0  # seconds from now


class Exchange:
    """One answer to a client that stays; `sent` holds what reached it."""

    def __init__(self, script, *, stream, seconds=FAR):
        self.schedules = Scripted(script)
        self.sent = []
        self.stream = stream
        self.seconds = seconds

    def run(self, send):
        asyncio.run(self._run(send))

    def passed(self):
        """Let the deadline pass."""
        self.running.deadline = asyncio.get_running_loop().time()

    @property
    def events(self):
        data = b"".join(message.get("body", b"") for message in self.sent).decode()
        return [json.loads(part.removeprefix("data: ")) for part in data.split("\n\n") if part]

    async def _run(self, send):
        deadline = asyncio.get_running_loop().time() + self.seconds
        self.running = Running(self.schedules, JOB, deadline, lambda failure: Refusal(500, failure.message))
        shape = ChatShape(logprobs=False)
        writing = Writing(shape, Telling(), model="m", prompt_tokens=1, include_usage=False, extension=None)

        async def stay():
            await asyncio.Event().wait()

        async def note(message):
            await send(message)
            self.sent.append(message)

        await Answer(self.running, writing, stream=self.stream)({"type": "http"}, stay, note)


async def take(_):
    pass


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_takes_too_long_before_its_first_token_is_refused(stream):
    exchange = Exchange([], stream=stream, seconds=0)
    with pytest.raises(Refusal) as refused:
        exchange.run(take)
    assert (refused.value.status, refused.value.code) == (504, "timeout")
    assert exchange.sent == []
    assert exchange.schedules.cancelled.is_set()


def test_a_stream_that_takes_too_long_ends_with_an_error():
    exchange = Exchange(said("a", finish=None), stream=True)

    async def send(message):
        if b'"a"' in message.get("body", b""):
            exchange.passed()

    exchange.run(send)
    assert exchange.events[-1]["error"]["code"] == "timeout"
    assert exchange.sent[-1]["more_body"] is False
    assert exchange.schedules.cancelled.is_set()


@pytest.mark.parametrize(("silence", "comments"), [(0.0, 2), (FAR, 0)])
def test_a_stream_that_has_nothing_to_tell_for_long_says_that_it_goes_on(silence, comments, monkeypatch):
    """Two tokens in the middle show nothing, as those of a call of a tool that is not whole yet."""
    monkeypatch.setattr(sending, "_SILENCE", silence)
    exchange = Exchange([*said("a", "", "", finish=None), *said("b")], stream=True)
    exchange.run(take)
    bodies = [message["body"] for message in exchange.sent[1:]]
    assert bodies.count(b": computing\n\n") == comments
    told = [body for body in bodies if body.startswith(b"data: {")]
    places = [place for place, body in enumerate(bodies) if b'"a"' in body or b'"b"' in body]
    assert bodies[places[0] + 1 : places[1]] == [b": computing\n\n"] * comments
    assert len(told) + comments + 1 == len(bodies)
    assert bodies[-1] == b"data: [DONE]\n\n"


def test_a_client_that_does_not_read_is_left_at_the_deadline():
    exchange = Exchange(said("a", "b"), stream=True)

    async def send(message):
        if message["type"] == "http.response.start":
            exchange.passed()
        else:
            await asyncio.Event().wait()

    exchange.run(send)
    assert [message["type"] for message in exchange.sent] == ["http.response.start"]
    assert exchange.schedules.cancelled.is_set()


def test_a_failure_of_the_server_amid_a_stream_is_told_and_raised(monkeypatch):
    exchange = Exchange([*said("a", finish=None), *said("b")], stream=True)

    async def send(message):
        if b'"a"' in message.get("body", b""):
            monkeypatch.setattr(Writing, "chunks", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        exchange.run(send)
    assert exchange.events[-1]["error"]["type"] == "server_error"
    assert exchange.schedules.cancelled.is_set()


def test_a_whole_answer_of_a_job_that_fails_late_is_an_error():
    exchange = Exchange([*said("a", finish=None), Failure("it broke", of_request=False)], stream=False)
    with pytest.raises(Refusal, match="it broke"):
        exchange.run(take)
    assert exchange.sent == []


def test_an_event_is_one_line_whatever_it_says():
    text = "é\n\r\u2028\x85\U0001f600"
    data = event({"text": text}).decode("ascii")
    assert len(data.splitlines()) == 2  # the second is empty: the event's end
    assert json.loads(data.removeprefix("data: ")) == {"text": text}
