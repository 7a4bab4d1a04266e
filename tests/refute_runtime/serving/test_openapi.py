"""The document, and bodies that nobody would write: no body may make the server fail."""

import asyncio
import json

import jsonschema
import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from live_server import MODEL, chat, completion
from schemathesis import GenerationMode
from schemathesis.checks import positive_data_acceptance
from scripted import Scripted, said
from starlette.testclient import TestClient

from refute_runtime.serving.app import application
from refute_runtime.serving.service import Limits, Service

ROUTES = {"/v1/chat/completions": chat, "/v1/completions": completion}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
OPERATIONS = [
    *(("POST", path) for path in ROUTES),
    *(("GET", path) for path in ("/v1/models", "/v1/models/{model}", "/health")),
]
# What only some values of other fields allow: no schema of a field says it.
TOGETHER = {"stream_options", "top_logprobs", "max_completion_tokens", "messages"}


@pytest.fixture(scope="module")
def app(engine):
    schedules = Scripted(said("Hi", "", "!"))
    service = Service(MODEL, lambda: schedules.served(engine), Limits(2**20, 60.0))
    asyncio.run(service.load())
    return application(service, None)


@pytest.fixture(scope="module")
def client(app):
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def documented(app):
    return schemathesis.openapi.from_asgi("/openapi.json", app)


def test_every_operation_is_attacked(documented):
    operations = (result.ok() for result in documented.get_all_operations())
    assert [(operation.method.upper(), operation.path) for operation in operations] == OPERATIONS


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_the_document_allows_is_answered(documented, method, path):
    @given(documented[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE))
    def attack(case):
        response = case.call()
        case.validate_response(response, excluded_checks=[positive_data_acceptance])
        if response.status_code == 400:
            assert response.json()["error"]["param"].partition("[")[0] in TOGETHER

    attack()


@pytest.mark.parametrize("path", ROUTES)
def test_what_the_document_does_not_allow_is_refused(documented, path):
    @given(documented[path]["POST"].as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def attack(case):
        case.call_and_validate()

    attack()


def body_schema(client, path):
    operation = client.get("/openapi.json").json()["paths"][path]["post"]
    return operation["requestBody"]["content"]["application/json"]["schema"]


@st.composite
def bodies(draw, names, usual):
    """A sound body with some fields replaced, added or missing; or anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(JSON)
    body = usual | draw(st.dictionaries(st.sampled_from(names) | st.text(max_size=5), JSON, max_size=3))
    for name in draw(st.lists(st.sampled_from(sorted(body)), max_size=1)):
        del body[name]
    return body


@pytest.mark.parametrize("path", ROUTES)
def test_no_body_makes_the_server_fail(client, path):
    documented = jsonschema.Draft202012Validator(body_schema(client, path))
    usual = ROUTES[path]()
    seen = []

    @settings(max_examples=500)
    @given(bodies(sorted(documented.schema["properties"]), usual))
    def attack(body):
        raw = json.dumps(body)  # NaN and Infinity too, which no JSON has
        response = client.post(path, content=raw, headers={"content-type": "application/json"})
        seen.append(response.status_code)
        assert response.status_code in {200, 400, 404}, response.text
        if response.status_code != 200:
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}
        if not documented.is_valid(body):
            assert response.status_code != 200

    attack()
    assert len(seen) >= 500
    assert {200, 400} <= set(seen)


@pytest.mark.parametrize("path", ROUTES)
@given(raw=st.binary(max_size=40))
def test_no_bytes_make_the_server_fail(client, path, raw):
    response = client.post(path, content=raw, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["code"] in {"invalid_json", "invalid_value", "missing_parameter"}
