"""The official client drives the server: its types and exceptions are what programs are written for."""

from contextlib import contextmanager

import client_checks
import openai
import pytest
from client_checks import TOOL
from live_server import MODEL, PATIENCE, serving
from scripted import Scripted, full_queue, said

from refute_runtime.serving.scheduler import Scheduler
from refute_runtime.serving.service import Served

HELLO = [{"role": "user", "content": "Hello"}]
CALL = "<tool_call>\n<function=look>\n<parameter=at>\nhere\n</parameter>\n<parameter=far>\n3\n</parameter>\n"
CALL += "</function>\n</tool_call>"


@contextmanager
def client_of(load, *, key=None, shown="any"):
    with serving(load, key=key) as server:
        assert server.ready.wait(PATIENCE)
        url = f"http://127.0.0.1:{server.port}/v1"
        with openai.OpenAI(base_url=url, api_key=shown, max_retries=0, timeout=PATIENCE) as client:
            yield client


@contextmanager
def scripted(engine, script, **how):
    schedules = Scripted(script, gated=how.pop("gated", False))
    with client_of(lambda: schedules.served(engine), **how) as client:
        yield client, schedules


@pytest.fixture
def client(engine):
    """A client of a server that computes."""

    def load():
        scheduler = Scheduler(engine, memory_bytes=2**30, active=4, queue=4)
        return Served(engine, scheduler, scheduler.close)

    with client_of(load) as client:
        yield client


def test_models(client):
    (model,) = client.models.list()
    assert model.id == MODEL
    assert client.models.retrieve(MODEL) == model
    assert model.max_model_len == 2048


def test_a_chat_streamed_is_the_chat(client):
    asked = {"model": MODEL, "messages": HELLO, "temperature": 0, "max_tokens": 12}
    client_checks.chat_streamed_is_the_chat(client, asked)


def test_a_completion_streamed_is_the_completion(client):
    client_checks.completion_streamed_is_the_completion(client, MODEL)


def test_a_seed_is_a_draw(client):
    def drawn(seed):
        asked = {"model": MODEL, "prompt": "Once", "max_tokens": 24, "seed": seed, "temperature": 2.0}
        return client.completions.create(**asked).choices[0].text

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in (1, 2, 3, None, None)}) > 3


def test_logprobs(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3
    )
    told = answer.choices[0].logprobs.content
    assert len(told) == answer.usage.completion_tokens
    for token in told:
        assert len(token.top_logprobs) == 3
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, token.top_logprobs[0].logprob)
        assert bytes(token.bytes).decode() == token.token


def test_what_the_engine_did(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=3, extra_body={"refute_counters": True}
    )
    did = answer.model_extra["refute"]
    assert (did["backend"], did["device"], did["numerics"]) == ("array", "cpu", "f32")
    assert did["counters"]["forwards"] == answer.usage.completion_tokens
    assert did["counters"]["experts_run"] > 0


def test_a_tool_is_called(engine):
    with scripted(engine, said("Let me see.\n", *CALL)) as (client, schedules):
        answer = client.chat.completions.create(model=MODEL, messages=HELLO, tools=[TOOL])
        (call,) = answer.choices[0].message.tool_calls
        assert (call.function.name, call.function.arguments) == ("look", '{"at": "here", "far": 3}')
        assert (answer.choices[0].finish_reason, answer.choices[0].message.content) == (
            "tool_calls",
            "Let me see.",
        )
        schedules.script = said("It is here.")
        result = {"role": "tool", "tool_call_id": call.id, "content": "a door"}
        again = client.chat.completions.create(
            model=MODEL, messages=[*HELLO, answer.choices[0].message, result], tools=[TOOL]
        )
        assert again.choices[0].message.content == "It is here."


def test_a_tool_is_called_in_a_stream(engine):
    with (
        scripted(engine, said(*CALL)) as (client, _),
        client.chat.completions.stream(model=MODEL, messages=HELLO, tools=[TOOL]) as stream,
    ):
        answer = stream.get_final_completion()
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("look", '{"at": "here", "far": 3}')
    assert answer.choices[0].finish_reason == "tool_calls"


def test_errors_have_their_types(engine):
    with scripted(engine, said("a"), key="k", shown="k") as (client, schedules):
        ask = client.chat.completions.create
        with pytest.raises(openai.BadRequestError) as refused:
            ask(model=MODEL, messages=HELLO, n=2)
        assert refused.value.param == "n"
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(model=MODEL, prompt=[1] * 2048, stream=True)
        assert refused.value.code == "context_length_exceeded"
        with pytest.raises(openai.NotFoundError) as refused:
            ask(model="other", messages=HELLO)
        assert refused.value.code == "model_not_found"
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").models.list()
        schedules.refuse = full_queue()
        with pytest.raises(openai.RateLimitError) as refused:
            ask(model=MODEL, messages=HELLO)
        assert refused.value.response.headers["retry-after"] == "7"


def test_leaving_a_stream_cancels_its_job(engine):
    with scripted(engine, said("a", "b", "c"), gated=True) as (client, schedules):
        schedules.let()
        with client.chat.completions.create(model=MODEL, messages=HELLO, stream=True) as stream:
            assert next(stream).choices[0].delta.role == "assistant"
            assert not schedules.cancelled.is_set()
        assert schedules.cancelled.wait(PATIENCE)
