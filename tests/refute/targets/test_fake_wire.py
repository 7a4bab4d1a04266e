"""The simulated engine's server as targets have it: its counters, its faults, its beginning and its end."""

import gc
import threading

import pytest
from fake_asking import (
    TARGET,
    ask,
    did,
    only,
)

from refute.faults.base import Fault
from refute.targets.base import CAPABILITIES, CannotPlant, TargetError
from refute.targets.fake import LAYERS, FakeTarget
from refute.targets.fake_model import EXPERTS_PER_TOKEN
from refute.wire.client import get


def test_what_the_engine_did_is_told_on_request() -> None:
    answer = ask(refute_counters=True, max_tokens=6, temperature=0)
    assert "refute" not in only(ask())
    prompt, layers = answer.usage["prompt_tokens"], LAYERS
    assert did(answer) == {
        "forwards": 6,
        "moe_layers": 6 * layers,
        "dense_layers": 0,
        "experts_run": (prompt + 5) * layers * EXPERTS_PER_TOKEN,
        "cache_positions_read": sum(range(prompt, prompt + 5)) * layers,
        "guards_fired": 0,
    }
    streamed = ask(refute_counters=True, max_tokens=6, temperature=0, stream=True)
    told = [chunk["refute"] for _, chunk in streamed.chunks if "refute" in chunk]
    assert told == [only(answer)["refute"]]
    assert "refute" in streamed.chunks[-1][1]


def test_a_fault_on_the_wire_is_in_front_of_the_server() -> None:
    with TARGET.plant(Fault("wire-done-dropped", 1)) as faulty:
        asked = {"temperature": 0, "stream": True}
        there, here = ask(target=faulty, **asked), ask(**asked)
        assert (there.done, here.done) == (False, True)
        assert there.text == here.text
        assert faulty.endpoint.dialect == TARGET.endpoint.dialect
        with pytest.raises(CannotPlant), faulty.plant(Fault("dense-dispatch", 1)):
            pass


def test_dense_dispatch_reaches_the_server() -> None:
    with TARGET.plant(Fault("dense-dispatch", 1)) as faulty:
        counters = did(ask(target=faulty, refute_counters=True, max_tokens=3, temperature=0))
        assert (counters["moe_layers"], counters["dense_layers"]) == (3 * (LAYERS - 1), 3)
        assert faulty.endpoint.base != TARGET.endpoint.base
    dense = did(ask(target=FakeTarget(dense=True), refute_counters=True, max_tokens=3))
    assert (dense["moe_layers"], dense["experts_run"]) == (0, 0)
    assert dense["dense_layers"] == dense["forwards"] * LAYERS


def test_guards_and_counters_that_are_stuck_reach_the_server() -> None:
    def counted(fault):
        with TARGET.plant(fault) as faulty:
            return did(ask(target=faulty, refute_counters=True, max_tokens=3, temperature=0))

    honest = did(ask(refute_counters=True, max_tokens=3, temperature=0))
    assert counted(Fault("guard-fires", 2)) == {**honest, "guards_fired": 2}
    assert counted(Fault("counters-stuck", 1)) == did(ask(refute_counters=True, max_tokens=2, temperature=0))
    assert set(counted(Fault("counters-stuck", 99)).values()) == {0}


def test_a_fault_that_cannot_reach_the_server_is_not_served() -> None:
    with TARGET.plant(Fault("empty-cache", 1)) as faulty, pytest.raises(TargetError, match="does not reach"):
        _ = faulty.endpoint


def test_what_is_promised() -> None:
    http_only = {name for name in CAPABILITIES if name.startswith("http")}
    dialect = TARGET.endpoint.dialect
    assert (dialect.name, dialect.capabilities, dialect.fresh) == ("fake", http_only, {})
    few = FakeTarget(capabilities=frozenset({"http", "plant"})).endpoint.dialect
    assert (few.capabilities, few.counters) == ({"http"}, None)
    none = FakeTarget(capabilities=CAPABILITIES - http_only)
    with pytest.raises(TargetError, match="no server"):
        _ = none.endpoint
    with pytest.raises(CannotPlant), none.plant(Fault("wire-done-dropped", 1)):
        pass


def test_a_server_starts_once_and_ends_with_its_target() -> None:
    before = set(threading.enumerate())
    target = FakeTarget()
    assert set(threading.enumerate()) == before  # none yet
    endpoint = target.endpoint
    assert target.endpoint is endpoint
    assert get(endpoint, "/models").status == 200
    del target
    gc.collect()
    assert set(threading.enumerate()) <= before
    with pytest.raises(TargetError, match="cannot reach"):
        get(endpoint, "/models")
