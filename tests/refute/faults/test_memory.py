"""Memory faults hold too much, by as much as their dose says, and change no token."""

import pytest

from refute.faults.base import Fault
from refute.faults.memory import Hoard
from refute.targets.base import CannotPlant, Footprint, Request
from refute.targets.fake import FakeTarget

NEEDED = Footprint(weights=1000, cache=10, workspace=5)


@pytest.mark.parametrize(("dose", "kept"), [(1.0, 20), (0.25, 5), (0.1, 2), (0.04, 0)])
def test_a_share_of_the_caches_is_kept(dose, kept) -> None:
    hoard, caches = Hoard(Fault("cache-leaked", dose)), [object() for _ in range(20)]
    assert [hoard.keep(cache, 1) for cache in caches] == caches
    assert len(hoard.caches) == kept


@pytest.mark.parametrize(
    ("fault", "bytes_"),
    [
        (Fault("weights-twice", 1.0), 1000),
        (Fault("weights-twice", 0.25), 250),
        (Fault("kv-oversized", 64.0), 630),
        (Fault("kv-oversized", 0.5), 0),
        (Fault("cache-leaked", 1.0), 0),
    ],
    ids=str,
)
def test_excess_is_what_the_dose_says(fault, bytes_) -> None:
    assert Hoard(fault).excess(NEEDED) == bytes_


@pytest.mark.parametrize("name", ["weights-twice", "kv-oversized"])
def test_other_faults_keep_no_cache(name) -> None:
    hoard = Hoard(Fault(name, 1.0))
    hoard.keep(object(), 1)
    assert hoard.caches == []


@pytest.mark.parametrize("fault", [Fault("stale-row", 1.0), Fault("cache-leaked", 2.0)], ids=str)
def test_what_cannot_be_planted_says_so(fault) -> None:
    with pytest.raises(CannotPlant):
        Hoard(fault)


def test_what_is_kept_is_given_back_when_the_fault_is_gone() -> None:
    target = FakeTarget(0)
    with target.plant(Fault("cache-leaked", 1.0)) as faulty:
        for _ in range(50):
            faulty.generate(Request((1, 2, 3), 2))
        assert faulty.resident() - target.resident() > 50 * 4 * 8192 - 8192
    assert abs(target.resident() - FakeTarget(0).resident()) <= 8192
