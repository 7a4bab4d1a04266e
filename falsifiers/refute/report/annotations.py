"""A decision as annotations of a CI run: `::error file=...,line=...::why`, beside the claim in its contract.

GitHub keeps ten of a kind for each step and fifty for each job, and drops the rest in silence. So the last
one says how many more there are.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from refute.contract import Contract
from refute.gate import Decision, Ruling
from refute.report.escape import command_property, command_text

MOST = 10  # of one kind, for each step
Place = tuple[str, int]
_Note = tuple[str, str, str]  # the claim, a title, a message


def annotations(decision: Decision, contracts: Sequence[Contract], root: Path) -> list[str]:
    """Return the lines of workflow commands. root: the checkout, to which files are relative."""
    places = dict(_places(contracts, root.resolve()))
    errors = [
        (ruling.claim.name, f"{ruling.claim.name} fails", f"{ruling.reason}{_clear(ruling)}")
        for ruling in decision.rulings
        if ruling.outcome == "fails"
    ]
    if decision.reason:
        errors.insert(0, ("", f"gate {decision.profile}", decision.reason))
    warnings = [
        (ruling.claim.name, f"{ruling.claim.name} is waived", ruling.reason)
        for ruling in decision.rulings
        if ruling.outcome == "waived"
    ]
    warnings += [
        (ruling.claim.name, f"{ruling.claim.name} is flagged", flag)
        for ruling in decision.rulings
        for flag in ruling.claim.flags
    ]
    return [*_lines("error", errors, places), *_lines("warning", warnings, places)]


def _places(contracts: Sequence[Contract], root: Path) -> Iterator[tuple[str, Place]]:
    for contract in contracts:
        path = contract.path.resolve()
        if path.is_relative_to(root):
            for each in contract.falsifiers:
                yield f"{contract.id}/{each.id}", (path.relative_to(root).as_posix(), each.line)


def _lines(kind: str, notes: Sequence[_Note], places: Mapping[str, Place]) -> Iterator[str]:
    shown = notes if len(notes) <= MOST else notes[: MOST - 1]
    for name, title, message in shown:
        properties = [f"title={command_property(title)}"]
        if name in places:
            file, line = places[name]
            properties = [f"file={command_property(file, 1_000)}", f"line={line}", *properties]
        yield f"::{kind} {','.join(properties)}::{command_text(message, 1_000)}"
    if len(shown) < len(notes):
        more = len(notes) - len(shown)
        yield f"::{kind} title=refute gate::and {more} more; the log and the job's summary have them all"


def _clear(ruling: Ruling) -> str:
    told = f"{ruling.remedy}: {ruling.command}" if ruling.remedy else ruling.command
    return f"; clear it with: {told}" if told else ""
