"""What the kind's code and the faults tell of one falsifier: what it can use, must have, and cannot see."""

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from refute.contract import Falsifier, Problem
from refute.faults.base import Fault, FaultSpec, milder
from refute.kinds import BUILT_IN, UnknownKind, UnusableKind
from refute.kinds.base import Kind
from refute.kinds.plugins import shadowing
from refute.marked_yaml import Document, Pointer, did_you_mean
from refute.statistics import minimum_runs, quantile_of
from refute.targets.base import CAPABILITIES

Kinds = Mapping[str, type[Kind[Any]]]
_BOUND_NAMES = ("of", "statistic", "above", "below", "within", "confidence", "runs", "cases", "testbeds")
# What a kind can do without: either threshold will do, and the unit decides whether testbeds are named.
_OPTIONAL = {"above", "below", "testbeds"}
# Doses in these units count things, unless the catalogue has parts of them.
_COUNTED = {"rows", "layers", "positions", "tokens", "times", "extra times"}


def falsifier_problems(
    document: Document,
    at: Pointer,
    falsifier: Falsifier,
    kinds: Kinds,
    faults: Mapping[str, FaultSpec],
) -> Iterator[Problem]:
    """Yield the faults of one falsifier that stands at `at`."""
    try:
        kind = kinds[falsifier.kind]
    except UnusableKind as why:
        fix = "mend or uninstall that distribution"
        yield document.problem("kind-unusable", (*at, "kind"), str(why), "", fix)
        return
    except UnknownKind:  # of a record's contract, whose kind may be anywhere
        return
    whose = shadowing(falsifier.kind) if falsifier.kind in BUILT_IN else ""
    if whose:
        what = f"{whose} registers another kind {falsifier.kind!r}, but that one is built in"
        fix = "rename its entry point, or uninstall it"
        yield document.problem("kind-shadowed", (*at, "kind"), what, "", fix)
    if falsifier.id == "findings":
        what = "a falsifier called 'findings' would have the file of the run's own findings.json"
        yield document.problem("id-reserved", (*at, "id"), what, "", "give it another id")
    yield from _capabilities(document, (*at, "requires"), falsifier, kind)
    yield from _bound(document, (*at, "bound"), falsifier, kind)
    yield from _parameters(document, at, falsifier, kind)
    yield from _faults(document, (*at, "must_catch"), falsifier, kind, faults)


def _capabilities(
    document: Document, at: Pointer, falsifier: Falsifier, kind: type[Kind[Any]]
) -> Iterator[Problem]:
    known = CAPABILITIES | kind.requires
    for index, capability in enumerate(falsifier.requires):
        if capability not in known:
            what, fix = f"no target has a capability {capability!r}", did_you_mean(capability, known)
            yield document.problem("capability-unknown", (*at, index), what, "", fix)
    missing = sorted(kind.requires - set(falsifier.requires))
    if missing:
        what = (
            f"{kind.name} also requires {', '.join(missing)}: the claim applies to fewer targets than it says"
        )
        yield document.problem("capability-missing", at, what, "", f"add {', '.join(missing)}")


def _bound(document: Document, at: Pointer, falsifier: Falsifier, kind: type[Kind[Any]]) -> Iterator[Problem]:
    bound, usable = falsifier.bound, kind.bound_fields
    given = {name for name in _BOUND_NAMES if getattr(bound, name) is not None}
    for name in given - usable:
        what = f"{kind.name} cannot use {name!r} in its bound"
        expected = f"{', '.join(sorted(usable))}"
        yield document.key_problem("bound-field", (*at, name), what, expected, "remove it")
    for name in usable - given - _OPTIONAL:
        what = f"{kind.name} needs {name!r} in its bound"
        yield document.problem("bound-field-missing", at, what, "", f"add {name}:")
    for name in given & {"above", "below", "within"} if kind.unit is not None else ():
        if bound.unit != kind.unit:
            what = f"{kind.name} measures in {kind.unit}, and this threshold is in {bound.unit}"
            expected = f"a quantity in {kind.unit}"
            yield document.problem("bound-unit", (*at, name), what, expected, "write it in that unit")
    if kind.measured is not None and bound.of not in (None, kind.measured):
        what = f"{kind.name} measures {kind.measured}, not {bound.of!r}"
        yield document.problem("bound-of", (*at, "of"), what, "", f"of: {kind.measured}")
    if bound.confidence < 0.5:
        what = f"confidence {bound.confidence:g} is less than that of a coin"
        fix = f"did you mean {1 - bound.confidence:g}?"
        yield document.problem("confidence-low", (*at, "confidence"), what, "such as 0.95", fix)
    if bound.statistic is not None and bound.runs is not None:
        least = minimum_runs(quantile_of(bound.statistic), bound.confidence)
        if bound.runs < least:
            what = f"{bound.runs} runs cannot bound a {bound.statistic} at confidence {bound.confidence}"
            yield document.problem("runs-few", (*at, "runs"), what, f"at least {least}", f"runs: {least}")
    if bound.testbeds is not None and "any" in bound.testbeds and len(bound.testbeds) > 1:
        what = "'any' stands beside named testbeds, which then decide nothing"
        fix = "remove it, or name [any] alone"
        yield document.problem("testbeds-any", (*at, "testbeds"), what, "", fix)


def _parameters(
    document: Document, at: Pointer, falsifier: Falsifier, kind: type[Kind[Any]]
) -> Iterator[Problem]:
    fields = {each.name: each for each in dataclasses.fields(kind.parameters_type)}
    inside = (*at, "with")
    unknown = [name for name in falsifier.parameters if name not in fields]
    for name in unknown:
        what, fix = f"{kind.name} has no parameter {name!r}", did_you_mean(name, fields)
        yield document.key_problem("parameter-unknown", (*inside, name), what, "", fix)
    absent = [
        name
        for name, each in fields.items()
        if name not in falsifier.parameters
        and each.default is dataclasses.MISSING
        and each.default_factory is dataclasses.MISSING
    ]
    for name in absent:
        what, expected = f"{kind.name} needs parameter {name!r}", inspect.formatannotation(fields[name].type)
        yield document.problem("parameter-missing", inside, what, expected, f"add {name}: to with:")
    unread = {(problem.line, problem.column) for problem in document.problems}
    if (
        unknown
        or absent
        or any(
            tuple(mark) in unread for place, mark in document.values.items() if place[: len(inside)] == inside
        )
    ):
        return
    try:
        kind.parameters_type(**falsifier.parameters)
    except Exception as error:  # noqa: BLE001 (a constructor may refuse in any way it likes)
        sentence = str(error)
        named = next((name for name in falsifier.parameters if name in sentence.split()), None)
        where = inside if named is None else (*inside, named)
        what = f"{kind.name} refuses its parameters: {sentence}"
        yield document.problem("parameter-refused", where, what, "", "correct it")


def _faults(
    document: Document,
    at: Pointer,
    falsifier: Falsifier,
    kind: type[Kind[Any]],
    faults: Mapping[str, FaultSpec],
) -> Iterator[Problem]:
    seen: set[Fault] = set()
    for index, fault in enumerate(falsifier.must_catch):
        place, spec = (*at, index), faults[fault.name]
        if fault in seen:
            what = f"{fault} stands twice: {spec.default:g} is the dose where none is written"
            yield document.problem("fault-twice", place, what, "", "remove one of them")
        seen.add(fault)
        if spec.seam == "clock" and not kind.timing:
            what = f"{kind.name} reads no clock, so it cannot see {fault.name}"
            fix = "remove it, or name a fault in what is computed"
            yield document.problem("fault-unseen", place, what, "", fix)
        yield from _dose(document, place, fault, spec, falsifier.bound.unit)


def _dose(
    document: Document, at: Pointer, fault: Fault, spec: FaultSpec, unit: str | None
) -> Iterator[Problem]:
    doses = (spec.default, *spec.doses)
    counts = spec.unit in _COUNTED and all(dose == int(dose) for dose in doses)
    multiplies = f"{spec.unit} ".startswith("x ") and spec.default != 1
    if counts and fault.dose != int(fault.dose):
        what = f"dose {fault.dose:g} of {fault.name} counts {spec.unit}"
        fix = f"such as {fault.name}={spec.default:g}"
        yield document.problem("dose-counted", at, what, "a whole number", fix)
    elif multiplies and (fault.dose - 1) * (spec.default - 1) <= 0:
        side = "above" if spec.default > 1 else "below"
        what = f"dose {fault.dose:g} of {fault.name} is not on the side of 1 where the fault lies"
        fix = f"such as {fault.name}={spec.default:g}"
        yield document.problem("dose-harmless", at, what, f"a number {side} 1", fix)
    elif milder(spec.default, fault.dose, spec) and spec.unit != unit:
        # A dose in the unit of the bound is chosen for that bound, which the catalogue does not know.
        what = f"dose {fault.dose:g} of {fault.name} is grosser than {spec.default:g} {spec.unit}"
        expected, fix = "a fault no grosser than that", f"write {fault.name} alone"
        yield document.problem("dose-gross", at, what, expected, fix)
