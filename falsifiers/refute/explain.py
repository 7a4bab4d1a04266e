"""A verdict that is not green, in words: claim, place, bound, figure, counterexample, how to run it again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refute.counterexample import SUFFIX
from refute.finding import Finding, missed
from refute.report.words import shown

_WIDTH = 100
_AGAIN = {
    True: "it refuted the claim again when it was run once more",
    False: "it did not refute when it was run once more: the engine does not repeat itself",
}


def explain(finding: Finding, where: str, record: Path | None) -> str:
    """Return a few labelled lines. where: `file:line` of the falsifier; record: where the finding lies."""
    rows = [
        (finding.verdict.value.upper(), f"{finding.contract}/{finding.falsifier}"),
        ("claim", finding.claim),
        ("at", where),
        ("bound", ", ".join(f"{name} {_short(value)}" for name, value in finding.bound.items())),
        ("figure", finding.figure),
        ("reason", finding.reason),
        (
            "missed",
            ", ".join(f"{t.name}={t.dose:g} ({t.reason})" for t in missed(finding.faults)),
        ),
    ]
    if finding.counterexample is not None:
        rows.append(("case", fields(finding.counterexample.case)))
        rows.append(("gave", fields(finding.counterexample.samples)))
        if finding.replays is not None:
            rows.append(("again", _AGAIN[finding.replays]))
        file = record.with_name(f"{finding.falsifier}{SUFFIX}") if record else None
        rows.append(("replay", f"refute replay {shown(file)}" if file else ""))
    width = max(len(label) for label, text in rows if text)
    return "\n".join(f"{label:<{width}}  {text}" for label, text in rows if text)


def fields(data: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {_short(value)}" for name, value in data.items())


def _short(value: Any) -> str:
    """One value on one line, long ones cut in the middle; what a terminal would obey is escaped."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 25]} … {text[-20:]}"
