"""What a server answers and runs on its routes: counted positively, on every route that it names itself."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from wire_replies import reply, whole

from refute.faults.base import Fault
from refute.kinds import wire_dispatch
from refute.kinds.base import Observation
from refute.kinds.wire_dispatch import ChatContent, RouteDispatch, RouteParameters
from refute.kinds.wire_requests import Asked
from refute.targets.base import TargetError
from refute.targets.fake import FakeTarget
from refute.wire.endpoint import Reply

CASE = {"content": "Repeat: a b", "max_tokens": 3, "sampling": {"temperature": 0}}
CHAT = ChatContent(Asked(max_tokens=4, pieces=1))
LAYERS = RouteDispatch(RouteParameters(max_tokens=4, pieces=1, check="layers"))
GUARDS = RouteDispatch(RouteParameters(max_tokens=4, pieces=1, check="guards"))
RAN = {
    "forwards": 3,
    "moe_layers": 12,
    "dense_layers": 0,
    "experts_run": 40,
    "cache_positions_read": 9,
    "guards_fired": 0,
}


def answered(body: Mapping[str, Any]) -> Observation:
    return Observation(CASE, {"reply": body})


def counted(tokens: int | None = 3, failed: str | None = None, **changes: int) -> Observation:
    good, file = {**RAN}, {"moe_layers": 4, "dense_layers": 0}
    return Observation(
        CASE,
        {
            "counters": {"/a, whole": good, "/b, streamed": {**good, **changes}},
            "tokens": {"/a, whole": 3, "/b, streamed": tokens},
            "failed": {"/a, whole": None, "/b, streamed": failed},
            "file": file,
        },
    )


def test_content_of_the_assistant_is_an_answer() -> None:
    assert CHAT.wrong(answered(whole("a"))) is None
    assert CHAT.informative(answered(whole("a")))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (reply("{}", 500), "status 500"),
        (reply('{"error": {"message": "lost"}}'), "lost"),
        (reply("no JSON"), "no JSON"),
        (whole("a", role=None), "role None"),
        (whole("a", role="user"), "role 'user'"),
        (whole(""), "no content"),
        (whole(None), "no content"),
        (whole("", "length", tokens=1), "no content"),
    ],
)
def test_any_other_answer_refutes(body: Mapping[str, Any], why: str) -> None:
    assert why in (CHAT.wrong(answered(body)) or "")


def test_a_model_that_ends_at_once_says_nothing_about_the_server() -> None:
    silent = answered(whole("", "stop", tokens=1))
    assert CHAT.wrong(silent) is None
    assert not CHAT.informative(silent)


@pytest.mark.parametrize("kind", [LAYERS, GUARDS])
def test_the_layers_of_the_file_do_not_refute(kind: RouteDispatch) -> None:
    assert kind.wrong(counted()) is None
    assert kind.informative(counted())


@pytest.mark.parametrize(
    ("kind", "observation"),
    [
        (LAYERS, counted(moe_layers=11, dense_layers=1)),
        (LAYERS, counted(dense_layers=1)),
        (GUARDS, counted(guards_fired=1)),
        (GUARDS, counted(moe_layers=0)),
        *((kind, counted(**dict.fromkeys(RAN, 0))) for kind in (LAYERS, GUARDS)),
        *((kind, counted(tokens=4)) for kind in (LAYERS, GUARDS)),
        *((kind, counted(tokens=None)) for kind in (LAYERS, GUARDS)),
        *((kind, counted(failed="status 500")) for kind in (LAYERS, GUARDS)),
    ],
)
def test_one_route_that_ran_something_else_refutes(kind: RouteDispatch, observation: Observation) -> None:
    assert (kind.wrong(observation) or "").startswith("/b, streamed: ")


def test_an_answer_without_counters_refutes() -> None:
    observation = counted()
    observation.samples["counters"]["/b, streamed"] = {}
    assert "no counters" in (LAYERS.wrong(observation) or "")


@pytest.mark.parametrize(
    "samples", [{"counters": {}, "file": {"moe_layers": 4}}, {**counted().samples, "file": {"moe_layers": 0}}]
)
def test_a_case_counts_only_with_routes_and_moe_layers(samples: Mapping[str, Any]) -> None:
    assert not LAYERS.informative(Observation(CASE, samples))


def test_every_route_is_driven_as_a_stream_and_as_a_whole() -> None:
    observation = LAYERS.observe(FakeTarget(0), CASE)
    assert sorted(observation.samples["counters"]) == [
        "/v1/chat/completions, streamed",
        "/v1/chat/completions, whole",
        "/v1/completions, streamed",
        "/v1/completions, whole",
    ]
    assert LAYERS.wrong(observation) is None
    assert LAYERS.informative(observation)


def test_one_dense_layer_is_seen() -> None:
    with FakeTarget(0).plant(Fault("dense-dispatch", 1)) as faulty:
        assert LAYERS.wrong(LAYERS.observe(faulty, CASE)) is not None


def documented(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Let every server describe itself so."""
    monkeypatch.setattr(wire_dispatch, "get", lambda *_: Reply.of_samples(reply(body)))


def document(*required: str) -> str:
    body = {"content": {"application/json": {"schema": {"required": ["model", *required]}}}}
    return json.dumps({"paths": {"/v1/speech": {"post": {"requestBody": body}}, "/health": {"get": {}}}})


def test_a_route_that_nothing_drives_is_never_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    documented(monkeypatch, document("voice"))
    with pytest.raises(LookupError, match="nothing drives POST /v1/speech"):
        LAYERS.observe(FakeTarget(0), CASE)


def test_a_route_that_the_server_does_not_have_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    documented(monkeypatch, document("messages"))
    assert "/v1/speech, streamed: status 404" in (LAYERS.wrong(LAYERS.observe(FakeTarget(0), CASE)) or "")


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"paths": {"/a": {"post": {}}}}', '{"paths": [1]}'])
def test_a_server_that_does_not_describe_itself_is_told_so(
    monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    documented(monkeypatch, body)
    with pytest.raises(TargetError, match="does not say which bodies its routes take"):
        LAYERS.observe(FakeTarget(0), CASE)
