"""A decision as Markdown, for the summary of a CI job: what fails first, what clears it, then the rest.

Never larger than asked for: rows that find no place are counted.
"""

from collections.abc import Iterator, Sequence

from refute.gate import Decision, Ruling
from refute.report.escape import in_markdown
from refute.report.words import counted

LIMIT = 1 << 20  # bytes that a step may write to its summary
_SPARE = 1_000  # for what is said of rows that found no place
_WORDS = {"fails": "fail", "waived": "are waived", "passes": "pass", "outside": "do not apply"}
_MOST = 50  # flags and notes
_HEAD = {
    "fails": ("claim", "status", "why", "clear it with"),
    "waived": ("claim", "status", "why", "clear it with"),
    "passes": ("claim", "figure", "level", "left to do"),
    "outside": ("claim", "figure", "level", "why"),
}


def job_summary(decision: Decision, limit: int = LIMIT) -> str:
    """Return a summary of at most `limit` bytes; nothing, where not even its head has room."""
    parts = list(_top(decision))
    room = limit - _SPARE - _size(parts)
    left_out = 0
    for outcome in _WORDS:
        rulings = [ruling for ruling in decision.rulings if ruling.outcome == outcome]
        if not rulings:
            continue
        head, tail = _around(outcome, len(rulings))
        rows: list[str] = []
        room -= _size((*head, *tail))
        for ruling in rulings:
            row = _row(ruling)
            room -= _size([row])
            if room < 0:
                left_out += len(rulings) - len(rows)
                break
            rows.append(row)
        parts += [*head, *rows, *tail] if rows else []
    if left_out:
        parts.append(f"\nAnother {counted(left_out, 'claim')} found no place here; the log has them all.\n")
    return "".join(parts) if _size(parts) <= limit else ""


def _top(decision: Decision) -> Iterator[str]:
    verdict = "open" if decision.passes else "closed"
    yield f"## refute gate, {decision.profile}: {verdict}\n\n"
    outcomes = [ruling.outcome for ruling in decision.rulings]
    counts = [f"{outcomes.count(each)} {word}" for each, word in _WORDS.items() if each in outcomes]
    told = [", ".join(counts), decision.reason, f"{counted(decision.runs, 'run')} read"]
    yield f"{'; '.join(filter(None, told))}; exit code {int(decision.code)}.\n\n"
    flags = [f"{each.claim.name}: {flag}" for each in decision.rulings for flag in each.claim.flags]
    notes = [*(f"**flagged** {in_markdown(flag)}" for flag in flags[:_MOST])]
    if len(flags) > _MOST:
        notes.append(f"**flagged** and {len(flags) - _MOST} more")
    notes += [f"not used: {in_markdown(each)}" for each in decision.unused[:_MOST]]
    yield "".join(f"- {note}\n" for note in notes)
    inputs = decision.inputs
    yield f"\nDecided as of {inputs.now} under policy <code>{inputs.policy_sha256[:12]}</code> "
    yield f"on evidence <code>{inputs.evidence_sha256[:12]}</code>.\n"


def _around(outcome: str, number: int) -> tuple[list[str], list[str]]:
    """What stands before and after the rows of one outcome; only what blocks is open to see."""
    title = f"{counted(number, 'claim')}: {_WORDS[outcome]}"
    names = _HEAD[outcome]
    table = f"| {' | '.join(names)} |\n|{'---|' * len(names)}\n"
    if outcome == "fails":
        return [f"\n### {title}\n\n", table], []
    return [f"\n<details><summary>{title}</summary>\n\n", table], ["\n</details>\n"]


def _row(ruling: Ruling) -> str:
    claim = ruling.claim
    cells: Sequence[str]
    if ruling.outcome in ("fails", "waived"):
        status = str(ruling.status or "")
        why = ruling.reason.removeprefix(f"{status}: ")
        cells = (f"`{claim.name}`", status, in_markdown(why), _cure(ruling))
    else:
        said = in_markdown(ruling.reason or ruling.note)
        cells = (f"`{claim.name}`", in_markdown(claim.figure), str(claim.level or "none"), said)
    return f"| {' | '.join(cells)} |\n"


def _cure(ruling: Ruling) -> str:
    """What to do, and a command as it is typed: code, in which entities are read and marks are not."""
    command = f"<code>{in_markdown(ruling.command, 1_000)}</code>" if ruling.command else ""
    return f"{in_markdown(ruling.remedy)}: {command}" if ruling.remedy else command


def _size(parts: Sequence[str]) -> int:
    return sum(len(part.encode()) for part in parts)
