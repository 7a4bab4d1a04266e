"""What a server says of itself: which engine, which build, which model; and what is said where that fails."""

import time

import pytest
from stub_endpoint import KEYED, listing, serving

from refute.targets.base import TargetError
from refute.wire import about
from refute.wire.about import Unnamed, only_model

CHAT = "/v1/chat/completions"
SGLANG = {"version": "0.5", "api_key": "s3cret"}


def served(url, model=None, key=None, dialect=None):
    return about.served(url, model, key, dialect=dialect, clock=time.perf_counter_ns)


@pytest.mark.parametrize(
    ("owner", "path", "says", "engine", "version", "context"),
    [
        ("refute", "/openapi.json", {"info": {"version": "1"}}, "refute", "1", 77),
        (
            "me",
            "/openapi.json",
            {"info": {"title": "🦙 llama.cpp Python API", "version": "0.3.36"}},
            "llama-cpp-python",
            "0.3.36",
            77,
        ),
        ("me", "/openapi.json", {"info": {"title": "My server", "version": "9"}}, "openai", None, 77),
        ("me", "/other", {}, "openai", None, 77),
        (
            "llamacpp",
            "/props",
            {"build_info": "b8681", "default_generation_settings": {"n_ctx": 55}},
            "llama.cpp",
            "b8681",
            55,
        ),
        ("vllm", "/version", {"version": "0.33"}, "vllm", "0.33", 77),
        ("sglang", "/server_info", SGLANG, "sglang", "0.5", 77),
        ("sglang", "/get_server_info", SGLANG, "sglang", "0.5", 77),
        ("someone", "/version", {"version": "0.33"}, "openai", None, 77),
        ("vllm", "/version", [], "vllm", None, 77),
        ("vllm", "/version", b"<html>", "vllm", None, 77),
    ],
)
def test_a_server_says_which_engine_it_is(owner, path, says, engine, version, context):
    with serving({"/v1/models": listing("m", owner=owner, max_model_len=77), path: (200, says)}) as url:
        found = served(url)

    assert (found.endpoint.dialect.name, found.version, found.context) == (engine, version, context)
    assert (found.endpoint.base, found.endpoint.model) == (f"{url}/v1", "m")
    assert "http_context" in found.capabilities
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize("context", [0, -1, "77", None, True])
def test_a_context_that_is_none_is_not_told(context):
    with serving({"/v1/models": listing("m", max_model_len=context)}) as url:
        found = served(url)
    assert found.context == 0
    assert "http_context" not in found.capabilities


@pytest.mark.parametrize(
    ("options", "promised"),
    [
        ({}, set()),
        ({"enable_deterministic_inference": True}, {"http_seed"}),
        ({"tool_call_parser": "qwen3_coder", "enable_deterministic_inference": False}, {"http_tools"}),
    ],
)
def test_what_depends_on_how_it_was_started_is_promised_only_where_it_says_so(options, promised):
    routes = {
        "/v1/models": listing("m", owner="sglang"),
        "/server_info": (200, SGLANG | options),
        CHAT: (200, {}),
    }
    with serving(routes) as url:
        assert served(url).capabilities == {"http", "http_logprobs", *promised}


@pytest.mark.parametrize(("status", "takes"), [(200, True), (400, False), (500, False)])
def test_whether_it_takes_tools_and_log_probabilities_is_asked(status, takes):
    with serving({"/v1/models": listing("m", owner="vllm"), CHAT: (status, {})}) as url:
        taken = served(url).capabilities & {"http_tools", "http_logprobs"}
    assert taken == ({"http_tools", "http_logprobs"} if takes else set())


def test_a_dialect_may_be_named():
    with serving({"/v1/models": listing("m"), "/version": (200, {"version": "0.33"})}) as url:
        assert served(url, dialect="vllm").version == "0.33"
        with pytest.raises(TargetError, match="'other': expected one of refute, llama-cpp-python"):
            served(url, dialect="other")


def test_the_model_may_be_named_among_several():
    with serving({"/v1/models": listing("a", "b")}) as url:
        assert served(url, "b").endpoint.model == "b"
        with pytest.raises(TargetError, match="does not serve 'c'; expected --model-name with one of a, b"):
            served(url, "c")
        for asks in (served, lambda url: only_model(url, None)):
            with pytest.raises(Unnamed, match="several models; expected --model-name with one of a, b"):
                asks(url)


def test_the_only_model_needs_no_name():
    with serving({"/v1/models": listing("m")}) as url:
        assert only_model(url, None) == "m"


@pytest.mark.parametrize(
    ("typed", "path", "base"),
    [
        ("", "/models", ""),
        ("/v1", "/v1/models", "/v1"),
        ("/api", "/api/models", "/api"),
        ("/api", "/api/v1/models", "/api/v1"),
    ],
)
def test_the_version_in_the_path_is_found(typed, path, base):
    with serving({path: listing("m")}) as url:
        assert served(f"{url}{typed}").endpoint.base == f"{url}{base}"


def test_a_key_is_shown_and_not_told():
    with serving({"/v1/models": (KEYED, listing("m")[1])}) as url:
        assert "sesame" not in repr(served(url, key="sesame"))
        for key, said in ((None, "is missing"), ("wrong", "is refused")):
            with pytest.raises(TargetError, match=said) as refused:
                served(url, key=key)
            assert "wrong" not in str(refused.value)


@pytest.mark.parametrize(
    "answer",
    [(200, []), (200, {}), (200, b"<html>"), (500, {}), (200, {"data": []}), (200, {"data": [{"id": 7}, 8]})],
)
def test_what_lists_no_model_is_no_such_server(answer):
    with (
        serving({"/v1/models": answer}) as url,
        pytest.raises(TargetError, match="expected a list of models"),
    ):
        served(url)


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_not_ready_is_called_so(status):
    with serving({"/v1/models": (status, {})}) as url, pytest.raises(TargetError, match=rf"\({status}\)"):
        served(url)


def test_a_server_that_leads_elsewhere_is_not_followed():
    with serving({"/v1/models": (308, {})}) as url, pytest.raises(TargetError) as refused:
        served(url)
    assert "/models leads to http://other/v1/models (308): name the URL" in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_nobody_listens():
    with serving({}) as url:
        pass
    with pytest.raises(TargetError, match=f"cannot reach {url}/v1: "):
        served(url)


def test_a_server_without_tls_is_not_reached_by_it():
    with serving({}) as url, pytest.raises(TargetError, match="cannot reach https://127"):
        served(url.replace("http:", "https:"))


@pytest.mark.parametrize(("url", "key"), [("ftp://h", None), ("http://127.0.0.1:1", "two\nlines")])
def test_what_cannot_be_sent_is_refused(url, key):
    with pytest.raises(TargetError, match=r"no http or https URL|no header can hold"):
        served(url, key=key)
