"""The ways into an engine: what each reports, and that no fault on one of them reaches another."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_gguf import write_tiny

from refute.faults.base import Fault
from refute.kinds.dispatch import EntryDispatch, EntryParameters
from refute.targets.base import CAPABILITIES, Delivery, Request, Target, TargetError
from refute.targets.bundled import BundledTarget
from refute.targets.fake import FakeTarget
from refute.targets.routes import entry_points, route_of
from refute_runtime.engine import Engine
from refute_runtime.model import Model

KIND = EntryDispatch(EntryParameters(max_tokens=3, prompt_tokens=(1, 8), check="layers"))
CASE = {"prompt": [101, 102, 103, 104], "max_tokens": 3}
GREEDY = Request((101, 102, 103, 104), 6)
MESSAGES = (("system", "Be brief."), ("user", "hello"))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="module")
def bundled(path):
    target = BundledTarget(path, "array", "cpu")
    yield target
    target.close()


@pytest.fixture(params=["fake", "bundled"])
def target(request, bundled) -> Target:
    return FakeTarget(0) if request.param == "fake" else bundled


def counted(target: Target) -> dict[str, dict[str, int]]:
    counters: dict[str, dict[str, int]] = KIND.observe(target, CASE).samples["counters"]
    return counters


def test_a_new_way_into_the_runtime_needs_an_entry_point() -> None:
    """Only `generate` (over the cache, as the twin, streamed, of a chat) and `forward` (sessions) compute."""
    ways = {name for thing in (Engine, Model) for name in vars(thing) if not name.startswith("_")}
    helpers = {"load", "with_backend", "with_threads", "close", "template", "digest", "settings", "new_cache"}
    helpers |= {"check", "counted"}  # refuses, counts, and neither computes
    assert ways == {"generate", "forward"} | helpers


def test_all_capabilities_give_all_entry_points_once() -> None:
    names = entry_points(CAPABILITIES)
    assert len(set(names)) == len(names) == 7


@pytest.mark.parametrize(
    ("request_", "route"),
    [
        (GREEDY, "generate"),
        (replace(GREEDY, cache=False), "generate-twin"),
        (replace(GREEDY, delivery=Delivery("callback")), "stream-callback"),
        (replace(GREEDY, delivery=Delivery("iterator")), "stream-iterator"),
        (Request((), 6, messages=MESSAGES), "chat"),
    ],
)
def test_route_of_a_request(request_, route) -> None:
    assert route_of(request_) == route


def test_honest_target_is_green_on_all_its_entry_points(target) -> None:
    assert tuple(counted(target)) == tuple(target.entry_points)
    assert not KIND.refutes(KIND.observe(target, CASE))


@pytest.mark.parametrize("dose", [1, 2, 3])
def test_dense_routes_are_the_last_ones_and_dense_in_all_layers(target, dose) -> None:
    with target.plant(Fault("dense-on-some-routes", dose)) as faulty:
        counters = counted(faulty)
    layers = target.identity.layers
    dense = [ran["dense_layers"] == layers * ran["forwards"] for ran in counters.values()]
    assert dense == [False] * (7 - dose) + [True] * dose
    assert not any(ran["dense_layers"] for ran in list(counters.values())[:-dose])


@pytest.mark.parametrize("dose", [1, 1000])
def test_guards_fire_in_the_first_forwards_and_greedy_tokens_stay(target, dose) -> None:
    with target.plant(Fault("guard-fires", dose)) as faulty:
        ours = faulty.generate(GREEDY)
        guards = {name: ran["guards_fired"] for name, ran in counted(faulty).items()}
    theirs = target.generate(GREEDY)
    assert ours.tokens == theirs.tokens
    assert ours.counters == replace(theirs.counters, guards_fired=min(dose, theirs.counters.forwards))
    assert set(guards.values()) == {min(dose, 3)}


def test_stuck_counters_leave_out_the_last_forwards_and_change_no_token(target) -> None:
    theirs = target.generate(GREEDY)
    for dose, left in ((1, 5), (4, 2), (1000, 0)):
        with target.plant(Fault("counters-stuck", dose)) as faulty:
            ours = faulty.generate(GREEDY)
        assert ours.tokens == theirs.tokens
        assert ours.counters.forwards == left


def test_stuck_counters_are_at_rest_in_sessions(target) -> None:
    honest = target.session(4, prompt=4).extend([101, 102, 103])
    with target.plant(Fault("counters-stuck", 1)) as faulty:
        stuck = faulty.session(4, prompt=4).extend([101, 102, 103])
    np.testing.assert_array_equal(stuck.logits, honest.logits)
    assert (honest.counters.forwards, stuck.counters.forwards) == (1, 0)


def test_session_counts_what_each_forward_did(target) -> None:
    session = target.session(8, prompt=3)
    first, second = session.extend([101, 102, 103]).counters, session.extend([104]).counters
    layers = target.identity.layers
    assert (first.moe_layers, first.dense_layers, first.cache_positions_read) == (layers, 0, 0)
    assert (second.forwards, second.cache_positions_read) == (1, 3 * layers)


@pytest.mark.parametrize("by", ["callback", "iterator"])
def test_streamed_tokens_are_those_that_are_collected(target, by) -> None:
    streamed = target.generate(replace(GREEDY, delivery=Delivery(by)))
    collected = target.generate(GREEDY)
    assert streamed.tokens == collected.tokens
    assert streamed.counters == collected.counters
    assert streamed.progress is not None
    assert (streamed.progress.forwards, streamed.progress.total) == ((1, 2, 3, 4, 5, 6), 6)
    assert collected.progress is None


@pytest.mark.parametrize("by", ["callback", "iterator"])
@pytest.mark.parametrize(
    ("fault", "progress"),
    [
        (None, ((1, 2), 2)),
        (Fault("stop-ignored", 1), ((1, 2), 3)),
        (Fault("stop-ignored", 4), ((1, 2), 6)),
        (Fault("stream-buffered", 1), ((2, 3), 3)),
        (Fault("stream-buffered", 8), ((6, 6), 6)),
    ],
    ids=str,
)
def test_what_is_computed_beyond_a_stop(target, by, fault, progress) -> None:
    request = replace(GREEDY, delivery=Delivery(by, stop_after=2))
    if fault is None:
        generation = target.generate(request)
    else:
        with target.plant(fault) as faulty:
            generation = faulty.generate(request)
    assert generation.tokens == target.generate(GREEDY).tokens[:2]
    assert len(generation.token_ns) == 2
    assert generation.progress is not None
    assert (generation.progress.forwards, generation.progress.total) == progress


def test_messages_are_a_prompt_that_the_template_writes(target) -> None:
    chat = target.generate(Request((), 6, messages=MESSAGES))
    assert len(chat.tokens) == 6
    assert chat.tokens != target.generate(Request((), 6, messages=(("user", "bye"),))).tokens


def test_bundled_chat_goes_through_the_files_template(path, bundled) -> None:
    with Engine.load(path, "array", "cpu") as engine:
        prompt = engine.template.encode([{"role": role, "content": text} for role, text in MESSAGES])
    assert (
        bundled.generate(Request((), 6, messages=MESSAGES)).tokens
        == bundled.generate(Request(tuple(prompt), 6)).tokens
    )


def test_a_prompt_beside_messages_is_refused(target) -> None:
    with pytest.raises(TargetError, match="found both"):
        target.generate(replace(GREEDY, messages=MESSAGES))


def test_a_file_without_a_template_has_no_chat(path) -> None:
    bare = write_tiny(path.with_name("bare.gguf"), overrides={"tokenizer.chat_template": None})
    target = BundledTarget(bare, "array", "cpu")
    assert "chat" not in target.capabilities
    assert "chat" not in target.entry_points
    target.close()
