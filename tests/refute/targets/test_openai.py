"""A server of OpenAI's API as a target: who it is, and which faults can be planted in front of it."""

import pytest
from stub_endpoint import listing, serving

from refute.faults.base import Fault
from refute.targets.base import CannotPlant, Request, TargetError
from refute.targets.fake import FakeTarget
from refute.targets.openai import EndpointTarget
from refute.wire.client import post


def test_it_is_what_the_server_says():
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
    assert (identity.model_path, identity.model_sha256) == (None, None)
    assert identity.settings["endpoint"] == f"{url}/v1"
    assert identity.settings["digest_of"] == "version"


def test_a_digest_of_nothing_is_none():
    with serving({"/v1/models": listing("m")}) as url:
        identity = EndpointTarget(url).identity

    assert (identity.engine, identity.engine_version, identity.engine_digest) == ("openai", "not told", "")
    assert identity.settings["digest_of"] == "nothing: no build is told"


def test_another_build_has_another_digest_and_another_model_has_not():
    digests = set()
    for version, build, model in (("1", "a", "m"), ("1", "a", "n"), ("2", "a", "m"), ("1", "b", "m")):
        routes = {
            "/v1/models": listing(model, owner="vllm", build=build),
            "/version": (200, {"version": version}),
        }
        with serving(routes) as url:
            digests.add(EndpointTarget(url).identity.engine_digest)
    assert len(digests) == 3


def test_counters_of_an_unknown_file_are_held_against_nothing():
    with serving({"/v1/models": listing("m", owner="refute")}) as url:
        assert EndpointTarget(url).capabilities == {"http", "http_seed", "plant"}


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
