"""The report as Markdown for pull requests and job summaries: what has to be seen first, within a size.

Only what this module writes is markup. All that comes from records and contracts is told in character
references, so that neither Markdown nor HTML nor a mention or an address can come out of it.
"""

from collections.abc import Iterable, Iterator, Sequence

from refute.report.escape import LIMIT as _CELL
from refute.report.escape import in_markdown as text
from refute.report.page.data import Blocker, ClaimPart, ContractPart, Problem, Report
from refute.report.words import counted
from refute.verdict import Status

LIMIT = 60_000  # bytes; GitHub takes 65,536 characters in a comment
_LEAST = 2_000
_BLOCKERS, _PROBLEMS, _RUNS, _NAMED = 20, 20, 10, 6
_SIGNS = {
    Status.TAMPERED: "⛔",
    Status.FALSIFIED: "❌",
    Status.INVALID: "🟣",
    Status.ERROR: "🟣",
    Status.STALE: "🟡",
    Status.BLOCKED: "🟡",
    Status.UNOBSERVED: "🟡",
    Status.INCONCLUSIVE: "🟡",
    Status.OPEN: "🔵",
    Status.WAIVED: "⚪",
    Status.DISCHARGED: "✅",
}


def markdown(report: Report, *, limit: int = LIMIT) -> str:
    """Write the report in at most `limit` bytes of UTF-8; what does not fit is counted at the end."""
    return fitted(_parts(report), report.version, report.made, limit)


def fitted(parts: Iterable[tuple[str, str]], version: str, made: str, limit: int) -> str:
    """Put parts, each with its name, together as far as there is room, and say what is left out."""
    written: list[str] = []
    room = max(limit, _LEAST) - 400  # for the last lines
    left: list[str] = []
    for name, part in parts:
        size = len(part.encode()) + 1
        if size > room:
            left.append(name)
        else:
            written.append(part)
            room -= size
    if left:
        told = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        written.append(f"Left out, as there is no room for it: {told}.\n")
    written.append(f"<sub>Made by refute {text(version)}, {text(made)}, from records alone.</sub>\n")
    return "\n".join(written)


def code(value: str, width: int = _CELL) -> str:
    """A text in the letters of commands."""
    return f"<code>{text(value, width)}</code>" if value else ""


def _parts(report: Report) -> Iterator[tuple[str, str]]:
    """Name and text of every part, what has to be seen first."""
    yield "the head", _head(report)
    if report.problems:
        yield "what the audit found", _problems(report.problems)
    if report.blockers:
        yield "what is not discharged", _blockers(report)
    worst_first = sorted(report.contracts, key=_worst)
    yield from ((text(contract.id), _contract(contract)) for contract in worst_first)
    if report.runs:
        yield "the runs", _runs(report)


def _worst(contract: ContractPart) -> int:
    order = list(Status)
    return min((order.index(status) for status, _ in contract.counts), default=len(order))


def _head(report: Report) -> str:
    lines = [f"{counted(report.claims, 'claim')} in {', '.join(map(code, report.trees))}."]
    if report.audited is not None:
        errors = counted(len(report.problems), "error")
        lines.append(f"The audit held them against {report.audited} rules: {errors}.")
    for gate in report.gates:
        told = ", ".join(f"{count} {text(word)}" for word, count in gate.outcomes) or text(gate.reason)
        lines.append(f"Gate {text(gate.profile)}: **{'open' if gate.passes else 'closed'}** ({told}).")
    return f"## Evidence: {_counts(report.counts)}\n\n{' '.join(lines)}\n"


def _counts(counts: Iterable[tuple[Status, int]]) -> str:
    return ", ".join(f"{_SIGNS[status]} {count} {status}" for status, count in counts) or "no claims"


def _problems(problems: Sequence[Problem]) -> str:
    rows = (
        (code(each.rule), code(each.name), code(_place(each)), text(each.found), text(each.expected))
        for each in problems[:_PROBLEMS]
    )
    return table(
        f"### What the audit found{_of(len(problems), _PROBLEMS)}",
        ("Rule", "Claim", "Where", "Found", "Expected"),
        rows,
    )


def _place(problem: Problem) -> str:
    return f"{problem.where}#{problem.pointer}" if problem.pointer else problem.where


def _blockers(report: Report) -> str:
    rows = []
    for each in report.blockers[:_BLOCKERS]:
        names = [code(need.name) for need in each.claims[:_NAMED]]
        more = len(each.claims) - len(names)
        claims = ", ".join(names) + (f" and {more} more" if more else "")
        rows.append((f"{_SIGNS[each.status]} {each.status}", text(each.reason), claims, _cure(each)))
    return table(
        f"### What is not discharged{_of(len(report.blockers), _BLOCKERS)}",
        ("Status", "Why", "Claims", "What clears it"),
        rows,
    )


def _contract(contract: ContractPart) -> str:
    head = f"<details><summary><b>{text(contract.id)}</b> {text(contract.title)}: {_counts(contract.counts)}"
    rows = (
        (
            code(part.falsifier),
            f"{_SIGNS[part.status]} {part.status}",
            part.verdict or "",
            text(part.figure or part.reason),
            text(part.bound),
            text(part.caught),
            part.level or "none",
        )
        for part in contract.claims
    )
    columns = ("Claim", "Status", "Verdict", "Figure", "Bound", "Faults caught", "Holds at")
    bad = (Status.TAMPERED, Status.FALSIFIED, Status.INVALID, Status.ERROR)
    stories = "\n".join(_story(part) for part in contract.claims if (part.beneath or part.status) in bad)
    return table(f"{head}</summary>", columns, rows) + f"\n{stories}\n</details>\n"


def _story(part: ClaimPart) -> str:
    """A claim that needs more words."""
    lines = [f"**{part.status}** {code(part.falsifier)} {text(part.sentence, 400)}", ""]
    lines.append(f"- Why: {text(part.reason, 400)}")
    lines += [f"- Note: {text(note, 400)}" for note in part.notes]
    if part.evidence is not None:
        lines.append(f"- Found: {text(part.evidence.figure)} on {text(part.evidence.engine)}")
        if part.evidence.picture is not None:
            lines.append(f"- Samples: {text(part.evidence.picture.description, 400)}")
        found = part.evidence.counterexample
        if found is not None:
            case = "; ".join(f"{name} {value}" for name, value in found.case)
            lines += [
                f"- Counterexample: {code(case, 400)}, {text(found.replays)}",
                f"- Again: {code(found.command, 400)}",
            ]
    if part.command:
        lines.append(f"- What clears it: {_cure(part)}")
    return "\n".join([*lines, ""])


def _cure(part: ClaimPart | Blocker) -> str:
    """What is to be done before the command that clears it, and the command."""
    return ": ".join(filter(None, (text(part.remedy), code(part.command, 400))))


def _runs(report: Report) -> str:
    rows = []
    for run in report.runs[:_RUNS]:
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in run.verdicts)
        rows.append(
            (code(run.id), text(run.state), verdicts, text(run.host), text(run.code), code(run.command))
        )
    total = len(report.runs) + report.earlier
    head = f"<details><summary>{counted(total, 'run')}{_of(total, _RUNS)}</summary>"
    return table(head, ("Run", "State", "Verdicts", "Host", "Code", "Command"), rows) + "\n</details>\n"


def _of(total: int, shown: int) -> str:
    return f" (the first {shown} of {total})" if total > shown else ""


def table(head: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, "", f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, ""])
