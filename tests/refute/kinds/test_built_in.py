"""Every kind that comes with refute keeps the rules that `check_kind` holds kinds of others to."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from refute.api import (
    Bound,
)
from refute.contract import Falsifier, load_contract
from refute.contract_files import find_contracts
from refute.kinds import BUILT_IN, kind_named, wire_times
from refute.provenance import model_sha256
from refute.select import embedded_model
from refute.targets.base import CannotPlant, Target
from refute.targets.bundled import BundledTarget
from refute.targets.fake import FakeTarget
from refute.testing import check_kind
from refute.wire.instrument import errors

FALSIFIERS: dict[str, Falsifier] = {}
for _path in find_contracts(Path("/")):
    for _each in load_contract(_path).falsifiers:
        FALSIFIERS.setdefault(_each.kind, _each)


def engine(falsifier: Falsifier) -> Target:
    """The simulated engine where it can have the faults and shows them, else the bundled one."""
    if falsifier.kind in DEMANDING:
        return BundledTarget(embedded_model(), "array", model_sha256=model_sha256)
    try:
        for fault in falsifier.must_catch:
            with FakeTarget().plant(fault, falsifier.bound):
                pass
    except CannotPlant:
        return BundledTarget(embedded_model(), "array", model_sha256=model_sha256)
    return FakeTarget(9)


# What the simulated model says depends little on the past, and its server cannot have all faults at once.
DEMANDING = {"repetition-penalty", "route-dispatch"}
# Kinds that take time with every run.
TIMED = {"tok-floor", "speed-up", "sse-gap", "sse-spread", "first-content", "request-rate", "clients-leave"}
# Kinds whose faults show in few of their cases.
PATIENT = {"reference-tokens", "text-round-trip", "repetition-penalty"}


def steady(events: int, gap_ms: float) -> dict[str, Any]:
    """What the check of the instrument says on an idle host: how busy this one is does not matter here."""
    return errors(*[[round(place * gap_ms * 1e6) for place in range(events)]] * 2, gap_ms=gap_ms)


def smaller(falsifier: Falsifier) -> tuple[dict[str, Any], Bound]:
    """Less of the same: the rules hold at any size, and here it is the rules that are tested."""
    bound, parameters = falsifier.bound, dict(falsifier.parameters)
    if bound.cases is not None and falsifier.kind not in PATIENT:
        bound = dataclasses.replace(bound, cases=min(bound.cases, 4))
    if falsifier.kind in TIMED:
        bound = dataclasses.replace(bound, confidence=0.9, runs=8)  # of which one may be odd on a busy host
    if falsifier.kind in ("tok-floor", "speed-up", "determinism", "greedy-equivalence"):
        parameters["max_tokens"] = 6
    if falsifier.kind == "clients-leave":
        parameters["clients"] = 12  # the simulated engine is so fast that a few hardly show,
        bound = dataclasses.replace(bound, runs=11)  # and that a host that is busy shows now and then
    if falsifier.kind == "sampling-distribution":
        settings = [{"temperature": 1.0}, {"temperature": 1.0, "top_k": 3}]
        parameters |= {"bins": 4, "max_tokens": 40, "settings": settings}
        bound = dataclasses.replace(bound, runs=12, within=0.5, confidence=0.99)
    return parameters, bound


@pytest.mark.parametrize("kind", BUILT_IN)
def test_every_kind_keeps_the_rules(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_times, "check_instrument", steady)
    assert kind in FALSIFIERS, f"no bundled contract uses {kind}"
    falsifier = FALSIFIERS[kind]
    parameters, bound = smaller(falsifier)
    faults = [str(fault) for fault in falsifier.must_catch]
    check_kind(kind_named(kind), parameters, bound, faults=faults, target=engine(falsifier), seeds=(0, 1))
