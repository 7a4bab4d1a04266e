"""A server of OpenAI's API as a target: what it is read from, and what is said where that fails."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from refute.faults.base import Fault
from refute.targets.base import CannotPlant, Request, TargetError
from refute.targets.fake import FakeTarget
from refute.targets.openai import EndpointTarget, base_of
from refute.wire.client import post


@contextmanager
def serving(answers):
    """A server that answers routes, with the key `sesame` where it is told so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, value = answers.get(self.path, (404, {"error": {"message": "no"}}))
            if status == "key":
                keyed = self.headers.get("Authorization") == "Bearer sesame"
                status, value = (200, value) if keyed else (401, {})
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def listing(*names, owner="someone", **more):
    return 200, {"object": "list", "data": [{"id": name, "owned_by": owner, **more} for name in names]}


@pytest.mark.parametrize("url", ["http://h", "http://h/", "http://h/v1", "http://h/v1/"])
def test_the_version_in_the_path_may_be_left_out(url):
    assert base_of(url) == "http://h/v1"


def test_another_path_is_kept():
    assert base_of("https://h:8443/api/v3/") == "https://h:8443/api/v3"


@pytest.mark.parametrize(
    "url", ["h:80", "ftp://h", "http://", "http://h:x/v1", "http://a:b@h/v1", "http://h/v1?a=1", ""]
)
def test_what_is_no_such_url_is_refused(url):
    with pytest.raises(TargetError):
        base_of(url)


def test_a_server_says_what_it_is():
    routes = {
        "/v1/models": listing("m", owner="vllm", max_model_len=77),
        "/version": (200, {"version": "0.33"}),
    }
    with serving(routes) as url:
        identity = EndpointTarget(url).identity

    assert (identity.engine, identity.engine_version, identity.model_name, identity.context) == (
        "vllm",
        "0.33",
        "m",
        77,
    )
    assert len(identity.engine_digest) == 64
    assert (identity.model_sha256, identity.settings["endpoint"]) == (None, f"{url}/v1")


def test_a_digest_of_nothing_is_none():
    with serving({"/v1/models": listing("m")}) as url:
        identity = EndpointTarget(url).identity

    assert (identity.engine, identity.engine_version, identity.engine_digest) == ("openai", "not told", "")


def test_another_build_has_another_digest():
    digests = set()
    for version in ("0.33", "0.34"):
        routes = {"/v1/models": listing("m", owner="vllm"), "/version": (200, {"version": version})}
        with serving(routes) as url:
            digests.add(EndpointTarget(url).identity.engine_digest)
    assert len(digests) == 2


def test_the_model_may_be_named_among_several():
    with serving({"/v1/models": listing("a", "b")}) as url:
        assert EndpointTarget(url, "b").endpoint.model == "b"
        for model in (None, "c"):
            with pytest.raises(TargetError, match="--model-name with one of a, b"):
                EndpointTarget(url, model)


def test_a_key_is_shown_and_not_told():
    with serving({"/v1/models": ("key", listing("m")[1])}) as url:
        target = EndpointTarget(url, key="sesame")
        assert "sesame" not in repr(target.endpoint)
        assert "sesame" not in repr(target.identity)
        for key, said in ((None, "is missing"), ("wrong", "is refused")):
            with pytest.raises(TargetError, match=said) as refused:
                EndpointTarget(url, key=key)
            assert "wrong" not in str(refused.value)


@pytest.mark.parametrize("answer", [(200, []), (200, {}), (200, b"<html>"), (500, {}), (200, {"data": []})])
def test_what_lists_no_model_is_no_such_server(answer):
    with (
        serving({"/v1/models": answer}) as url,
        pytest.raises(TargetError, match="expected a list of models"),
    ):
        EndpointTarget(url)


def test_nobody_listens():
    with serving({}) as url:
        pass
    with pytest.raises(TargetError, match="cannot reach"):
        EndpointTarget(url)


def test_a_dialect_may_be_named():
    with serving({"/v1/models": listing("m")}) as url:
        assert EndpointTarget(url, dialect="sglang").endpoint.dialect.name == "sglang"
        with pytest.raises(TargetError, match="expected one of refute, llama-cpp-python"):
            EndpointTarget(url, dialect="other")


@pytest.mark.parametrize(("status", "takes"), [(200, True), (400, False)])
def test_whether_it_takes_tools_is_asked(status, takes):
    routes = {"/v1/models": listing("m", owner="vllm"), "/v1/chat/completions": (status, {})}
    with serving(routes) as url:
        assert ("http_tools" in EndpointTarget(url).capabilities) is takes


def test_counters_of_an_unknown_file_are_held_against_nothing():
    with serving({"/v1/models": listing("m", owner="refute")}) as url:
        assert EndpointTarget(url).capabilities == {"http", "http_seed", "http_logprobs", "plant"}


def test_what_it_cannot_do_is_a_sentence():
    with serving({"/v1/models": listing("m")}) as url:
        target = EndpointTarget(url)
    assert target.entry_points == ()
    with pytest.raises(TargetError, match="lacks the capability token_ids"):
        target.generate(Request((1,), 1))


def test_faults_of_the_wire_are_planted_in_front_of_it():
    fake = FakeTarget()
    target = EndpointTarget(fake.endpoint.base)
    body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 4}
    with target.plant(Fault("wire-done-dropped", 1.0)) as faulty:
        events = [event.data for event in post(faulty.endpoint, "/chat/completions", body).events]
        with pytest.raises(CannotPlant), faulty.plant(Fault("wire-done-dropped", 1.0)):
            pass
    assert "[DONE]" not in events
    assert post(target.endpoint, "/chat/completions", body).events[-1].data == "[DONE]"


def test_other_faults_are_left_to_the_stand_in():
    with serving({"/v1/models": listing("m")}) as url:
        target = EndpointTarget(url)
    for name in ("stale-row", "rope-base"):
        with pytest.raises(CannotPlant, match="only faults of the wire"), target.plant(Fault(name, 1.0)):
            pass
