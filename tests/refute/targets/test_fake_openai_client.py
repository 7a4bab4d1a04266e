"""The official client drives the simulated server: a judge of its form that knows nothing of us."""

import json

import client_checks
import openai
import pytest
from client_checks import TOOL

from refute.targets.fake import FakeTarget

TARGET = FakeTarget()
SAID = "a river 🙂 of light"
ASKED = {"model": "fake", "messages": [{"role": "user", "content": f"Repeat: {SAID}"}], "temperature": 0}
CALLING = {"model": "fake", "messages": [{"role": "user", "content": "look"}], "tools": [TOOL]}


@pytest.fixture(scope="module")
def client():
    with openai.OpenAI(base_url=TARGET.endpoint.base, api_key="any", max_retries=0, timeout=30) as client:
        yield client


def test_models(client):
    (model,) = client.models.list()
    assert client.models.retrieve("fake") == model
    assert model.id == "fake"


def test_a_chat_streamed_is_the_chat(client):
    whole = client_checks.chat_streamed_is_the_chat(client, ASKED)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (SAID, "stop")


def test_the_helper_for_streams_puts_the_answer_together(client):
    with client.chat.completions.stream(**ASKED, logprobs=True, top_logprobs=2) as stream:
        answer = stream.get_final_completion()
    whole = client.chat.completions.create(**ASKED, logprobs=True, top_logprobs=2)
    assert answer.choices[0].message.content == whole.choices[0].message.content
    told = [(token.token, token.logprob) for token in answer.choices[0].logprobs.content]
    assert told == [(token.token, token.logprob) for token in whole.choices[0].logprobs.content]


def test_a_completion_streamed_is_the_completion(client):
    client_checks.completion_streamed_is_the_completion(client, "fake")


def test_a_tool_is_called_and_its_result_answered(client):
    answer = client.chat.completions.create(**CALLING)
    (call,) = answer.choices[0].message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert (call.function.name, type(arguments["at"]), type(arguments["far"])) == ("look", str, int)
    assert answer.choices[0].finish_reason == "tool_calls"
    with client.chat.completions.stream(**CALLING) as stream:
        (streamed,) = stream.get_final_completion().choices[0].message.tool_calls
    assert (streamed.function.name, json.loads(streamed.function.arguments)) == ("look", arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "a door"}
    messages = [*CALLING["messages"], answer.choices[0].message, result]
    again = client.chat.completions.create(model="fake", messages=messages, tools=[TOOL])
    assert again.choices[0].message.content


def test_errors_have_their_types(client):
    ask = client.chat.completions.create
    with pytest.raises(openai.BadRequestError) as refused:
        ask(**ASKED, n=2)
    assert (refused.value.param, refused.value.type) == ("n", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="fake", prompt="a" * 9999, stream=True)
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as refused:
        ask(model="other", messages=ASKED["messages"])
    assert refused.value.code == "model_not_found"


def test_what_the_engine_did(client):
    answer = client.chat.completions.create(**ASKED, extra_body={"refute_counters": True})
    assert answer.model_extra["refute"]["counters"]["forwards"] == answer.usage.completion_tokens
