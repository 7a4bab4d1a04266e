"""Two runs side by side: verdicts that changed, figures that moved, and what else was different between them.

Each run is judged by its own contract, which lies in it. Where the two asked for something else, the claim is
said to be not comparable, and how it differs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from refute.contract import Bound, Contract, ContractError, load_contract
from refute.finding import Finding
from refute.kinds import ANY
from refute.kinds.base import Drawn, Kind
from refute.reader import CONTRACT, SUMMARY, Record, Run, folders_by_run, read_run
from refute.rejudge import Kinds, rejudge
from refute.report.page.data import Pair
from refute.report.page.evidence import bound_in_words, bound_of, pairs_of, told
from refute.report.page.pictures import Strip, numbers_of, percent, strip
from refute.units import format_quantity
from refute.verdict import Verdict

Change = Literal["worse", "better", "other", "same", "only before", "only after", "not comparable"]
CHANGES: tuple[Change, ...] = (
    "worse",
    "better",
    "other",
    "not comparable",
    "only before",
    "only after",
    "same",
)
_GREEN = (Verdict.SURVIVED,)
_ALWAYS_OTHER = ("run", "process", "started", "ended", "time")


class NoSuchRun(Exception):  # noqa: N818 (an answer to a person)
    """A name that is no run, or several; the message says what there is."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One claim in one run. problems: how many, where its record is not what it says."""

    verdict: Verdict
    figure: str
    reason: str
    bound: str
    picture: Strip | None
    problems: int


@dataclass(frozen=True, slots=True)
class Pairing:
    """One claim in both runs. apart: why they cannot be compared; difference: of their figures, in words."""

    contract: str
    falsifier: str
    sentence: str
    change: Change
    before: Seen | None
    after: Seen | None
    apart: str
    difference: str


@dataclass(frozen=True, slots=True)
class Side:
    """One run as a whole."""

    run: str
    state: str
    facts: tuple[Pair, ...]
    contracts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """differences: name, before, after, of where the runs come from; alike: how many entries are equal."""

    made: str
    version: str
    before: Side
    after: Side
    pairings: tuple[Pairing, ...]
    differences: tuple[tuple[str, str, str], ...]
    alike: int

    @property
    def counts(self) -> tuple[tuple[Change, int], ...]:
        """How many claims changed how."""
        found = [pairing.change for pairing in self.pairings]
        return tuple((change, found.count(change)) for change in CHANGES if change in found)


def find_run(name: str, trees: Sequence[Path]) -> list[Path]:
    """The folders of a run: one folder that was named, or all of an id, or of the only id that begins so."""
    folder = Path(name)
    if (folder / SUMMARY).is_file():
        return [folder]
    runs = folders_by_run(trees)
    ids = [run for run in runs if run.startswith(name)]
    if len(ids) == 1 and name:
        return runs[ids[0]]
    where = ", ".join(map(str, trees))
    if not ids:
        newest = list(runs)[-3:]
        there = f"; the newest there are {', '.join(newest)}" if newest else ""
        raise NoSuchRun(f"{name}: no run in {where} has this id, nor is it the folder of one{there}")
    raise NoSuchRun(f"{name}: {len(ids)} runs in {where} begin so: {', '.join(ids[-3:])}")


def compare(
    before: Sequence[Path], after: Sequence[Path], *, kinds: Kinds, made: str, version: str
) -> Comparison:
    """Read both runs and pair their claims."""
    sides = [{run.contract: run for run in map(read_run, folders)} for folders in (before, after)]
    names = [*sides[0], *(name for name in sides[1] if name not in sides[0])]
    pairings = [
        pairing for name in names for pairing in _pairings(sides[0].get(name), sides[1].get(name), kinds)
    ]
    order = {change: place for place, change in enumerate(CHANGES)}
    ours, theirs = (dict(_provenance(list(side.values()))) for side in sides)
    keys = [*ours, *(key for key in theirs if key not in ours)]
    differences = tuple(
        (key, ours.get(key, "not there"), theirs.get(key, "not there"))
        for key in keys
        if ours.get(key) != theirs.get(key)
    )
    return Comparison(
        made=made,
        version=version,
        before=_side(list(sides[0].values())),
        after=_side(list(sides[1].values())),
        pairings=tuple(sorted(pairings, key=lambda each: order[each.change])),
        differences=differences,
        alike=len(keys) - len(differences),
    )


def _side(runs: Sequence[Run]) -> Side:
    summaries = [run.summary for run in runs if run.summary]
    facts: list[Pair] = []
    if summaries:
        time, provenance = summaries[0]["time"], summaries[0]["provenance"]
        facts = [
            ("started", str(time["started"])),
            ("command", " ".join(map(str, provenance["argv"]))),
            ("commit", told(provenance["git"]["commit"])),
            ("testbed", str(provenance["testbed"])),
        ]
    states = ", ".join(sorted({run.state for run in runs}))
    return Side(runs[0].run, states, tuple(facts), tuple(run.contract for run in runs))


def _provenance(runs: Sequence[Run]) -> Iterator[Pair]:
    """Where a run comes from, as lines: of its first contract, as all have it alike."""
    summary = next((run.summary for run in runs if run.summary), None)
    if summary is not None:
        for part in ("requested", "provenance"):
            data = {key: value for key, value in summary[part].items() if key not in _ALWAYS_OTHER}
            yield from pairs_of(data)
    targets = (record.finding.target for run in runs for record in run.records if record.finding.target)
    target = next(targets, None)
    if target is not None:
        yield from pairs_of(target, inside="attacked.")
    for run in runs:
        if run.summary:
            yield f"contract {run.contract}", f"{run.summary['contract']['version']}"


def _pairings(before: Run | None, after: Run | None, kinds: Kinds) -> Iterator[Pairing]:
    ours, theirs = _records(before), _records(after)
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        yield _pairing(before, after, ours.get(name), theirs.get(name), kinds)


def _records(run: Run | None) -> dict[str, Record]:
    return {} if run is None else {record.finding.falsifier: record for record in run.records}


def _pairing(
    before: Run | None, after: Run | None, ours: Record | None, theirs: Record | None, kinds: Kinds
) -> Pairing:
    findings = [record.finding for record in (ours, theirs) if record is not None]
    drawings = [_drawn(finding, kinds) for finding in findings]
    numbers = [number for drawing in drawings if drawing for number in numbers_of(*drawing)]
    sides = [
        None if record is None or run is None else _seen(run, record, numbers, kinds)
        for run, record in ((before, ours), (after, theirs))
    ]
    apart = _apart(*findings) if len(findings) == 2 else ""
    difference = ""
    if len(findings) == 2 and not apart and all(drawings):
        difference = _difference(*(drawing for drawing in drawings if drawing))
    return Pairing(
        contract=findings[0].contract,
        falsifier=findings[0].falsifier,
        sentence=findings[-1].claim,
        change=_change(sides[0], sides[1], apart),
        before=sides[0],
        after=sides[1],
        apart=apart,
        difference=difference,
    )


def _seen(run: Run, record: Record, numbers: Sequence[float], kinds: Kinds) -> Seen:
    finding = record.finding
    drawing = _drawn(finding, kinds)
    source = _source(run)
    found = [problem for problem in run.problems if problem.falsifier in (None, finding.falsifier)]
    again = rejudge(record, str(run.path), source, kinds).discrepancies if source else ()
    return Seen(
        verdict=finding.verdict,
        figure=finding.figure,
        reason=finding.reason,
        bound=_bound(finding),
        picture=None if drawing is None else strip(*drawing, also=numbers),
        problems=len(found) + len(again),
    )


def _source(run: Run) -> Contract | None:
    try:
        return load_contract(run.path / CONTRACT, kinds=ANY)
    except (ContractError, OSError):
        return None


def _drawn(finding: Finding, kinds: Kinds) -> tuple[Drawn, Bound] | None:
    if finding.judgement is None:
        return None
    try:
        kind: Kind[Any] = kinds(finding.kind).of(finding.parameters)
        drawn, bound = kind.drawn(finding.observations, finding.judgement), bound_of(finding)
    except Exception:  # noqa: BLE001 (a kind that is not here, or edited samples: then nothing is drawn)
        return None
    return None if drawn is None else (drawn, bound)


def _bound(finding: Finding) -> str:
    try:
        return bound_in_words(bound_of(finding))
    except (TypeError, ValueError):  # it was edited
        return told(dict(finding.bound))


def _apart(before: Finding, after: Finding) -> str:
    """In what the two asked for something else; empty where they are comparable."""
    asked = [
        {
            "kind": finding.kind,
            "rule version": finding.rule_version,
            **_lines(_in_units(finding.bound), "bound "),
            **_lines(finding.parameters, "with "),
        }
        for finding in (before, after)
    ]
    keys = [*asked[0], *(key for key in asked[1] if key not in asked[0])]
    return "; ".join(
        f"{key} {asked[0].get(key, 'not given')} → {asked[1].get(key, 'not given')}"
        for key in keys
        if asked[0].get(key) != asked[1].get(key)
    )


def _lines(data: Mapping[str, Any], before: str) -> dict[str, str]:
    """Nested plain data as lines that can be compared."""
    return dict(pairs_of(data, inside=before))


def _in_units(bound: Mapping[str, Any]) -> dict[str, Any]:
    limits = (name for name in ("above", "below", "within") if name in bound)
    return {**bound, **{name: format_quantity(bound[name], bound.get("unit")) for name in limits}}


def _change(before: Seen | None, after: Seen | None, apart: str) -> Change:
    if before is None or after is None:
        return "only after" if before is None else "only before"
    if apart:
        return "not comparable"
    if before.verdict is after.verdict:
        return "same"
    if before.verdict in _GREEN:
        return "worse"
    return "better" if after.verdict in _GREEN else "other"


def _difference(before: tuple[Drawn, Bound], after: tuple[Drawn, Bound]) -> str:
    """How far a figure moved, as far as both intervals tell: no further than from end to end of them."""
    (ours, bound), (theirs, _) = before, after
    if ours.interval is None or theirs.interval is None:
        return ""
    low, high = theirs.interval[0] - ours.interval[1], theirs.interval[1] - ours.interval[0]
    ends = f"{_signed(low, bound)} to {_signed(high, bound)}"
    sure = percent(max(2 * bound.confidence - 1, 0.0))
    if low > 0 or high < 0:
        verb = "rose" if low > 0 else "fell"
        return f"the {ours.statistic} {verb}: {ends}, each end with at least {sure} confidence"
    return f"the intervals overlap: {ends}, so no difference is shown"


def _signed(value: float, bound: Bound) -> str:
    return ("+" if value > 0 else "") + format_quantity(value, bound.unit)
