"""The routes, in process: what is asked of the schedules, and the one body that every error has."""

import asyncio

import jsonschema
import pytest
from live_server import MODEL, chat, completion
from scripted import Scripted, full_queue, said
from starlette.testclient import TestClient

from refute_runtime.errors import ContextOverflow, RequestError
from refute_runtime.serving import prepare
from refute_runtime.serving.app import application
from refute_runtime.serving.jobs import Failure
from refute_runtime.serving.service import Limits, Service

TOOL = {"type": "function", "function": {"name": "look", "description": "Look."}}


class Clients:
    """A client of an application over a script, and the schedules behind it."""

    def __init__(self, engine, script=(), *, key=None, max_body=2**16, raises=True):
        self.schedules = Scripted(list(script) or said("Hi", "!", ""))
        self.service = Service(MODEL, lambda: self.schedules.served(engine), Limits(max_body, 60.0))
        asyncio.run(self.service.load())
        self._client = TestClient(application(self.service, key), raise_server_exceptions=raises)

    def __getattr__(self, name):
        return getattr(self._client, name)

    @property
    def document(self):
        return self.get("/openapi.json").json()

    def holds_to(self, name, value):
        schema = {"$ref": f"#/components/schemas/{name}", "components": self.document["components"]}
        jsonschema.validate(value, schema)


@pytest.fixture
def client(engine):
    return Clients(engine)


def error(response, status):
    """The error of a response, which has all that errors have."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    return response.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/chat/completions", chat(), "Chat"),
        ("/v1/chat/completions", chat(logprobs=True, top_logprobs=2, refute_counters=True), "Chat"),
        ("/v1/completions", completion(), "Completion"),
        ("/v1/completions", completion(logprobs=1, refute_counters=True), "Completion"),
    ],
)
def test_answers_hold_to_the_document(client, path, body, name):
    response = client.post(path, json=body)
    assert response.status_code == 200
    client.holds_to(name, response.json())


def test_a_called_tool_holds_to_the_document(engine):
    call = "<tool_call>\n<function=look>\n</function>\n</tool_call>"
    client = Clients(engine, said(call))
    answer = client.post("/v1/chat/completions", json=chat(tools=[TOOL])).json()
    client.holds_to("Chat", answer)
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "look"


def test_without_tools_a_call_is_text(engine):
    call = "<tool_call>\n<function=look>\n</function>\n</tool_call>"
    client = Clients(engine, said(call))
    for body in (chat(), chat(tools=[TOOL], tool_choice="none")):
        answer = client.post("/v1/chat/completions", json=body).json()
        assert answer["choices"][0]["message"]["content"] == call


def test_a_chat_becomes_a_job(engine, client):
    body = chat(temperature=0, seed=3, stop=["x"], max_tokens=9, logprobs=True, top_logprobs=4)
    client.post("/v1/chat/completions", json=body)
    (job,) = client.schedules.jobs
    assert list(job.prompt) == engine.template.encode(body["messages"])
    assert (job.max_tokens, job.stop, job.top_logprobs) == (9, ("x",), 4)
    assert (job.sampling.temperature, job.sampling.seed) == (0, 3)


def test_a_developer_speaks_as_the_system(engine, client):
    for role in ("system", "developer"):
        messages = [{"role": role, "content": "Be brief."}, {"role": "user", "content": "Hello"}]
        assert client.post("/v1/chat/completions", json=chat(messages=messages)).status_code == 200
    as_system, as_developer = client.schedules.jobs
    assert as_system.prompt == as_developer.prompt


def test_tools_are_shown_to_the_model(engine, client):
    client.post("/v1/chat/completions", json=chat(tools=[TOOL]))
    assert list(client.schedules.jobs[0].prompt) == engine.template.encode(chat()["messages"], [TOOL])


def test_an_answer_whose_length_is_not_said_fits(engine, client):
    client.post("/v1/chat/completions", json=chat())
    client.post("/v1/completions", json=completion())
    context = engine.config.context
    client.post("/v1/completions", json=completion(prompt=[1] * (context - 5)))
    first, second, third = client.schedules.jobs
    assert first.max_tokens == context - len(first.prompt)
    assert second.max_tokens == 16
    assert third.max_tokens == 5


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_leaves_no_room_is_refused(engine, client, stream):
    body = completion(prompt=[1] * engine.config.context, stream=stream)
    told = error(client.post("/v1/completions", json=body), 400)
    assert (told["param"], told["code"]) == ("prompt", "context_length_exceeded")
    assert client.schedules.jobs == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("raised", "param", "code"),
    [
        (ContextOverflow("too long"), "messages", "context_length_exceeded"),
        (RequestError("max_tokens is 5, expected less"), "max_tokens", "invalid_value"),
        (RequestError("prompt has 5000, expected less"), "messages", "invalid_value"),
        (RequestError("the text is odd"), None, "invalid_value"),
    ],
)
def test_what_the_schedules_refuse_is_refused_before_any_answer(client, raised, param, code, stream):
    client.schedules.refuse = raised
    told = error(client.post("/v1/chat/completions", json=chat(stream=stream)), 400)
    assert (told["message"], told["param"], told["code"]) == (str(raised), param, code)


def test_messages_that_the_template_refuses_are_named(client):
    arguments = {"name": "look", "arguments": "no json"}
    call = {"id": "c", "type": "function", "function": arguments}
    body = chat(messages=[{"role": "assistant", "tool_calls": [call]}])
    told = error(client.post("/v1/chat/completions", json=body), 400)
    assert told["param"] == "messages[0].tool_calls[0]"


def test_tools_need_a_template_that_tells_of_them(client, monkeypatch):
    monkeypatch.setattr(prepare, "format_of", lambda _: None)
    told = error(client.post("/v1/chat/completions", json=chat(tools=[TOOL])), 400)
    assert told["param"] == "tools"


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_queue_says_when_to_come_again(client, stream):
    client.schedules.refuse = full_queue()
    response = client.post("/v1/chat/completions", json=chat(stream=stream))
    assert error(response, 429)["type"] == "rate_limit_error"
    assert response.headers["retry-after"] == "7"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("of_request", "status"), [(True, 400), (False, 500)])
def test_a_job_that_fails_before_its_first_token_is_an_error(engine, stream, of_request, status):
    client = Clients(engine, [Failure("it broke", of_request)])
    told = error(client.post("/v1/chat/completions", json=chat(stream=stream)), status)
    assert told["message"] == "it broke"
    assert client.schedules.cancelled.is_set()


def test_a_job_that_fails_later_is_an_error_in_the_stream(engine):
    client = Clients(engine, [*said("a", "b", finish=None), Failure("it broke", of_request=False)])
    response = client.post("/v1/chat/completions", json=chat(stream=True))
    *_, last, end = response.text.split("\n\n")
    assert (response.status_code, end) == (200, "")
    assert last.startswith('data: {"error":{"message":"it broke","type":"server_error"')


def test_a_failure_of_the_server_is_a_plain_sentence(engine):
    client = Clients(engine, raises=False)
    client.schedules.refuse = ZeroDivisionError("secret")
    told = error(client.post("/v1/chat/completions", json=chat()), 500)
    assert told["type"] == "server_error"
    assert "secret" not in told["message"]


def test_a_server_that_loads_answers(engine):
    service = Service(MODEL, lambda: Scripted([]).served(engine), Limits(100, 60.0))
    client = TestClient(application(service, None))
    for response in (
        client.get("/health"),
        client.get("/v1/models"),
        client.post("/v1/chat/completions", json=chat()),
    ):
        assert error(response, 503)["code"] == "loading"
    assert client.get("/openapi.json").status_code == 200


def test_models(engine, client):
    models = client.get("/v1/models").json()
    client.holds_to("ModelList", models)
    (model,) = models["data"]
    assert (model["id"], model["max_model_len"]) == (MODEL, engine.config.context)
    assert model["build"] == engine.digest
    assert client.get(f"/v1/models/{MODEL}").json() == model
    assert error(client.get("/v1/models/other"), 404)["code"] == "model_not_found"
    assert client.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/chat/completions/", "/v1/embeddings", "/docs"])
def test_an_unknown_path(client, path):
    assert error(client.get(path), 404)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/chat/completions"), ("POST", "/v1/models"), ("DELETE", "/health")]
)
def test_a_method_that_a_path_does_not_take(client, method, path):
    response = client.request(method, path)
    assert error(response, 405)["type"] == "invalid_request_error"
    assert response.headers["allow"]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_is_not_said_to_be_json_is_refused(client, kind):
    headers = {} if kind is None else {"content-type": kind}
    told = error(client.post("/v1/completions", content=b"{}", headers=headers), 415)
    assert told["code"] == "unsupported_media_type"


def test_a_body_as_large_as_the_limit_is_read(engine):
    body = b'{"model": "pocket", "prompt": "a"}'
    for limit, status in ((len(body), 200), (len(body) - 1, 413)):
        client = Clients(engine, max_body=limit)
        kind = {"content-type": "application/json; charset=utf-8"}
        assert client.post("/v1/completions", content=body, headers=kind).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic s3cret"}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"x-api-key": ""}, 401),
        ({"authorization": "Bearer s3cret"}, 200),
        ({"authorization": "bearer s3cret"}, 200),
        ({"x-api-key": "s3cret"}, 200),
    ],
)
def test_a_key(engine, headers, status):
    client = Clients(engine, key="s3cret")
    response = client.get("/v1/models", headers=headers)
    assert response.status_code == status
    if status == 401:
        assert error(response, 401)["type"] == "authentication_error"
    assert client.get("/health").status_code == 200
