"""What a change of a contract does to its claims, and the version that it calls for.

| change | what it does | version |
|---|---|---|
| unchanged | comments and layout at most | any |
| editorial | texts, references, history, order, spelling: no verdict depends on it | patch |
| addition | another falsifier | minor |
| tightening | asks for more: every verdict is as hard to reach as before, or harder | minor |
| loosening | asks for less somewhere, and for more nowhere | major |
| breaking | asks for something else, or for more here and for less there | major |

A change that can flip a verdict is never a patch. A looser contract is a new promise under an old name, so
it is as major as a broken one. The version says all this inside one id: the `-v1` in an id is part of the
name, under which records are kept, and stays. What is removed or renamed is breaking: its records would
prove nothing that is still claimed. Asking for more means a higher floor, a lower ceiling or tolerance, more
runs or cases, a higher confidence, more or milder faults to catch, more needs, a higher level to discharge,
more testbeds, fewer required capabilities (the claim then applies to more targets). Which way a parameter
asks for more is said by its kind (`Kind.stricter`); where the kind does not say, a change is breaking.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

from refute.contract import Contract, Falsifier
from refute.faults import FAULTS
from refute.faults.base import Fault, FaultSpec, milder
from refute.lint_falsifier import Kinds
from refute.units import format_quantity, parse_quantity
from refute.verdict import Level


class Effect(StrEnum):
    """What one change, or all of them together, does to the claims."""

    UNCHANGED = "unchanged"
    EDITORIAL = "editorial"
    ADDITION = "addition"
    TIGHTENING = "tightening"
    LOOSENING = "loosening"
    BREAKING = "breaking"


class Bump(IntEnum):
    """A step from one version to the next, by the part that moves."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3


REQUIRED: Mapping[Effect, Bump] = {
    Effect.UNCHANGED: Bump.NONE,
    Effect.EDITORIAL: Bump.PATCH,
    Effect.ADDITION: Bump.MINOR,
    Effect.TIGHTENING: Bump.MINOR,
    Effect.LOOSENING: Bump.MAJOR,
    Effect.BREAKING: Bump.MAJOR,
}
_LEVELS = (Level.SIMULATED, Level.EMBEDDED, Level.FULL_MODEL)  # ascending
_THRESHOLDS = ("above", "below", "within")
_TEXTS = ("title", "description", "references", "scope", "history", "version")


class Change(NamedTuple):
    """One change in one sentence, old -> new."""

    effect: Effect
    sentence: str


def changes(
    old: Contract, new: Contract, kinds: Kinds, faults: Mapping[str, FaultSpec] | None = None
) -> tuple[Change, ...]:
    """Tell two versions of one contract apart; nothing where they read the same."""
    found = [*model_changes(old, new), *_falsifiers(old, new, kinds, FAULTS if faults is None else faults)]
    if not found and old.semantic_sha256 != new.semantic_sha256:
        found.append(Change(Effect.BREAKING, "its meaning changed"))
    return (*found, *_texts(old, new))


def effect_of(found: Collection[Change]) -> Effect:
    """Weigh all changes of a contract together."""
    effects = {change.effect for change in found}
    harder = effects & {Effect.ADDITION, Effect.TIGHTENING}
    if Effect.BREAKING in effects or (harder and Effect.LOOSENING in effects):
        return Effect.BREAKING
    order = (Effect.LOOSENING, Effect.TIGHTENING, Effect.ADDITION, Effect.EDITORIAL)
    return next((effect for effect in order if effect in effects), Effect.UNCHANGED)


def bump(old: str, new: str) -> Bump | None:
    """Say which part of the version moved; None where it went back."""
    before, after = (tuple(map(int, version.split("."))) for version in (old, new))
    if after < before:
        return None
    moved = next((place for place in range(3) if after[place] != before[place]), 3)
    return Bump(3 - moved)


def next_version(old: str, required: Bump) -> str:
    """Give the least version that takes the required step."""
    numbers = list(map(int, old.split(".")))
    place = 3 - required
    if place == 3:
        return old
    return ".".join(map(str, [*numbers[:place], numbers[place] + 1, *[0] * (2 - place)]))


def model_changes(old: Contract, new: Contract) -> Iterator[Change]:
    """Tell apart what two versions say of the model."""
    for name in ("name", "architecture"):
        before, after = getattr(old.model, name), getattr(new.model, name)
        if before != after:
            yield Change(Effect.BREAKING, f"model.{name}: {before} -> {after}")
    added, removed = _apart(old.model.sha256, new.model.sha256)
    for digest in added:
        yield Change(Effect.BREAKING, f"model.sha256: {digest[:12]} added")
    for digest in removed:
        yield Change(Effect.BREAKING, f"model.sha256: {digest[:12]} removed")


def _falsifiers(
    old: Contract, new: Contract, kinds: Kinds, faults: Mapping[str, FaultSpec]
) -> Iterator[Change]:
    before = {falsifier.id: falsifier for falsifier in old.falsifiers}
    after = {falsifier.id: falsifier for falsifier in new.falsifiers}
    added = [name for name in after if name not in before]
    for name, falsifier in before.items():
        if name in after:
            yield from falsifier_changes(falsifier, after[name], kinds, faults)
            continue
        same = next((other for other in added if _attack(after[other]) == _attack(falsifier)), None)
        if same is None:
            yield Change(Effect.BREAKING, f"{name}: removed")
        else:
            added.remove(same)
            yield Change(Effect.BREAKING, f"{name}: renamed to {same}")
    for name in added:
        yield Change(Effect.ADDITION, f"{name}: added")


def _attack(falsifier: Falsifier) -> tuple[object, ...]:
    """Everything but names and places."""
    given = dataclasses.replace(falsifier, id="", alias=None, claim="", line=0, column=0)
    return tuple(getattr(given, field.name) for field in dataclasses.fields(given))


def falsifier_changes(
    old: Falsifier, new: Falsifier, kinds: Kinds, faults: Mapping[str, FaultSpec]
) -> Iterator[Change]:
    """Tell two versions of one falsifier apart, texts left out."""
    if old.kind != new.kind:
        yield Change(Effect.BREAKING, f"{new.id}: kind: {old.kind} -> {new.kind}")
        return
    kind = kinds.get(new.kind)
    stricter: Mapping[str, str] = kind.stricter if kind is not None else {}
    anyway: Collection[str] = kind.requires if kind is not None else ()
    for effect, sentence in (
        *_numbers(old.parameters, new.parameters, stricter, None),
        *_bound(old, new, stricter),
        *_faults(old.must_catch, new.must_catch, faults),
        *_listed("needs", old.needs, new.needs, Effect.TIGHTENING),
        *_capabilities(old.requires, new.requires, anyway),
        *_level(old.discharge, new.discharge),
    ):
        yield Change(effect, f"{new.id}: {sentence}")


def _numbers(
    old: Mapping[str, Any], new: Mapping[str, Any], stricter: Mapping[str, str], unit: str | None
) -> Iterator[Change]:
    import rfc8785  # noqa: PLC0415

    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if rfc8785.dumps(before) == rfc8785.dumps(after):
            continue
        (first, first_unit), (second, second_unit) = _number(before), _number(after)
        if first is None or second is None or first_unit != second_unit:
            effect = Effect.BREAKING
        elif first == second:
            effect = Effect.EDITORIAL
        elif name not in stricter:
            effect = Effect.BREAKING
        else:
            more = (second > first) == (stricter[name] == "higher")
            effect = Effect.TIGHTENING if more else Effect.LOOSENING
        yield Change(effect, f"{name}: {_shown(before, unit)} -> {_shown(after, unit)}")


def _number(value: Any) -> tuple[float | None, str | None]:
    """A number, or a quantity in its base unit; None for anything else."""
    if isinstance(value, str):
        try:
            quantity = parse_quantity(value)
        except ValueError:
            return None, None
        return quantity.value, quantity.unit
    return (value, None) if isinstance(value, int | float) and not isinstance(value, bool) else (None, None)


def _shown(value: Any, unit: str | None) -> str:
    if isinstance(value, float) and unit is not None:
        return format_quantity(value, unit)
    return "nothing" if value is None else str(value)


def _bound(old: Falsifier, new: Falsifier, stricter: Mapping[str, str]) -> Iterator[Change]:
    before, after = dataclasses.asdict(old.bound), dataclasses.asdict(new.bound)
    hosts = [set(bound.pop("testbeds") or ()) for bound in (before, after)]
    unit, now = before.pop("unit"), after.pop("unit")
    if unit != now:
        yield Change(Effect.BREAKING, f"the bound's unit: {unit} -> {now}")
    thresholds = [{name: bound.pop(name) for name in _THRESHOLDS} for bound in (before, after)]
    yield from _numbers(thresholds[0], thresholds[1], stricter, now)
    yield from _numbers(before, after, stricter, None)
    if hosts[0] != hosts[1] and "any" in hosts[0] | hosts[1]:
        shown = " -> ".join(", ".join(sorted(each)) or "none" for each in hosts)
        yield Change(Effect.BREAKING, f"testbeds: {shown}")
    else:
        yield from _listed("testbeds", hosts[0], hosts[1], Effect.TIGHTENING)


def _faults(
    old: Collection[Fault], new: Collection[Fault], faults: Mapping[str, FaultSpec]
) -> Iterator[Change]:
    added, removed = _apart(old, new)
    for fault in list(added):
        before = [other for other in removed if other.name == fault.name]
        if len(before) == 1 and sum(other.name == fault.name for other in added) == 1:
            easier = milder(before[0].dose, fault.dose, faults[fault.name])
            effect = Effect.BREAKING
            if easier is not None:
                effect = Effect.LOOSENING if easier else Effect.TIGHTENING
            yield Change(effect, f"must_catch: {before[0]} -> {fault}")
            added.remove(fault)
            removed.remove(before[0])
    for fault in added:
        yield Change(Effect.TIGHTENING, f"must_catch: {fault} added")
    for fault in removed:
        yield Change(Effect.LOOSENING, f"must_catch: {fault} removed")


def _listed(name: str, old: Collection[str], new: Collection[str], when_added: Effect) -> Iterator[Change]:
    opposite = Effect.LOOSENING if when_added is Effect.TIGHTENING else Effect.TIGHTENING
    added, removed = _apart(old, new)
    for each in added:
        yield Change(when_added, f"{name}: {each} added")
    for each in removed:
        yield Change(opposite, f"{name}: {each} removed")


def _capabilities(old: Collection[str], new: Collection[str], anyway: Collection[str]) -> Iterator[Change]:
    """A capability that the kind requires anyway decides nothing, written or not."""
    for effect, sentence in _listed("requires", old, new, Effect.LOOSENING):
        needless = sentence.split()[1] in anyway
        yield Change(Effect.EDITORIAL if needless else effect, sentence)


def _level(old: Level, new: Level) -> Iterator[Change]:
    if old is not new:
        higher = _LEVELS.index(new) > _LEVELS.index(old)
        yield Change(Effect.TIGHTENING if higher else Effect.LOOSENING, f"discharge: {old} -> {new}")


def _apart(old: Collection[Any], new: Collection[Any]) -> tuple[list[Any], list[Any]]:
    """What is new and what is gone, in an order of their own."""
    return sorted(set(new) - set(old), key=str), sorted(set(old) - set(new), key=str)


def _texts(old: Contract, new: Contract) -> Iterator[Change]:
    """Name the texts that changed; the order of lists is one of them."""
    for name in _TEXTS:
        if getattr(old, name) != getattr(new, name):
            yield Change(Effect.EDITORIAL, f"{name} reworded" if name != "version" else "version moved")
    before = {falsifier.id: falsifier for falsifier in old.falsifiers}
    both = [falsifier for falsifier in new.falsifiers if falsifier.id in before]
    for falsifier in both:
        for name in ("alias", "claim"):
            if getattr(falsifier, name) != getattr(before[falsifier.id], name):
                yield Change(Effect.EDITORIAL, f"{falsifier.id}: {name} reworded")
    kept = [name for name in before if any(name == falsifier.id for falsifier in both)]
    if kept != [falsifier.id for falsifier in both]:
        yield Change(Effect.EDITORIAL, "falsifiers in another order")
