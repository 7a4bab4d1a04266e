"""What engines promise and how they are asked: of capabilities that exist, and one name each."""

import pytest

from refute.targets.base import CAPABILITIES
from refute.wire.dialects import DIALECTS, ENGINES, OPENAI, at
from refute.wire.endpoint import Dialect


def test_every_engine_is_known_by_something_of_its_own():
    owners = [engine.owner for engine in ENGINES]
    assert len(set(owners)) == len(owners) == len(DIALECTS)
    assert [engine.dialect for engine in ENGINES if engine.owner is None] == [OPENAI]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.dialect.name)
def test_what_is_promised_exists(engine):
    promised = engine.dialect.capabilities
    assert "http" in promised
    assert promised <= {name for name in CAPABILITIES if name.startswith("http")}
    assert set(engine.only_if) <= promised
    assert (engine.dialect.counters is not None) is ("http_counters" in promised)


def test_a_salt_is_never_the_same():
    salted = Dialect("d", frozenset({"http"}), fresh={"cache": False}, salt="salt")
    first, second = salted.unshared(), salted.unshared()
    assert first["cache"] is second["cache"] is False
    assert first["salt"] != second["salt"]


def test_without_a_way_to_say_it_nothing_is_said():
    assert Dialect("d", frozenset({"http"})).unshared() == {}


@pytest.mark.parametrize(
    ("value", "keys", "found"),
    [({"a": {"b": 1}}, ("a", "b"), 1), ({"a": 1}, ("a", "b"), None), ([], ("a",), None), (3, (), 3)],
)
def test_the_way_into_a_value(value, keys, found):
    assert at(value, keys) == found
