"""Whatever a server sends, a claim about it is judged: no reply breaks a falsifier, or stays in no record."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refute.contract import Bound, Falsifier, load_contract
from refute.kinds import kind_named
from refute.kinds.base import Observation
from refute.targets.fake import FakeTarget
from refute.trials import sample

CONTRACT = Path(__file__).parents[3] / "contracts" / "openai-chat-completions-v1.yaml"
FALSIFIERS = load_contract(CONTRACT).falsifiers
HOSTILE = (None, True, -1, 1.5, 10**400, float("nan"), float("-inf"), "", "x", [], {}, [None], [[]], [{}])


@pytest.fixture(scope="module")
def good() -> dict[str, Observation]:
    """One case of each falsifier on the simulated server."""
    fake, seen = FakeTarget(), {}
    for falsifier in FALSIFIERS:
        kind = kind_named(falsifier.kind).of(falsifier.parameters)
        *_, seen[falsifier.id] = sample(kind, Bound(confidence=0.95, cases=1), fake, seed=3)
        assert kind.informative(seen[falsifier.id])
    return seen


def replies(samples: Any) -> Iterator[dict[str, Any]]:
    """Every reply in samples, wherever it stands."""
    if isinstance(samples, dict) and "content_type" in samples:
        yield samples
        return
    for each in (
        samples.values() if isinstance(samples, dict) else samples if isinstance(samples, list) else ()
    ):
        yield from replies(each)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every object or list within a value, with each of its keys."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


def changed(text: str, data: st.DataObject) -> str:
    """JSON with one value in it put out, or another in its place."""
    value = {"": json.loads(text)}
    holder, key = data.draw(st.sampled_from([*places(value)]), label="place")
    if key != "" and data.draw(st.booleans(), label="put out"):
        del holder[key]
    else:
        holder[key] = data.draw(st.sampled_from(HOSTILE), label="value")
    return json.dumps(value[""])


@pytest.mark.parametrize("falsifier", FALSIFIERS, ids=lambda each: each.id)
@settings(max_examples=40)
@given(data=st.data())
def test_no_reply_breaks_a_claim(
    good: dict[str, Observation], falsifier: Falsifier, data: st.DataObject
) -> None:
    kind = kind_named(falsifier.kind).of(falsifier.parameters)
    samples = copy.deepcopy(good[falsifier.id].samples)
    reply = data.draw(st.sampled_from([*replies(samples)]), label="reply")
    events = [event for event in reply["events"] if event[1] != "[DONE]"]
    if events:
        event = data.draw(st.sampled_from(events), label="event")
        event[1] = changed(event[1], data)
    else:
        reply["body"] = changed(reply["body"], data)
    judgement = kind.judge([Observation(good[falsifier.id].case, samples)], falsifier.bound)
    assert json.loads(json.dumps(judgement.reason, allow_nan=False)) == judgement.reason
