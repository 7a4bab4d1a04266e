"""Two runs side by side as Markdown."""

from refute.report.escape import in_markdown as text
from refute.report.page.compare import Comparison, Pairing, Seen
from refute.report.page.markdown import LIMIT, code, fitted, table


def compared_markdown(both: Comparison, *, limit: int = LIMIT) -> str:
    """Write the comparison in at most `limit` bytes of UTF-8."""
    counts = ", ".join(f"{count} {change}" for change, count in both.counts) or "no claims"
    head = f"## Two runs: {counts}\n\nBefore {code(both.before.run)}, after {code(both.after.run)}.\n"
    changed = [each for each in both.pairings if each.change != "same" or each.difference.startswith("the m")]
    alike = [each for each in both.pairings if each not in changed]
    parts = [
        ("the head", head),
        ("what changed", _claims("### What changed", changed)),
        ("provenance", _provenance(both)),
        ("what is the same", _folded(f"{len(alike)} the same", _claims("", alike))),
    ]
    return fitted((part for part in parts if part[1]), both.version, both.made, limit)


def _claims(head: str, pairings: list[Pairing]) -> str:
    rows = [
        (
            code(f"{each.contract}/{each.falsifier}"),
            each.change,
            _seen(each.before),
            _seen(each.after),
            text(each.apart or each.difference),
        )
        for each in pairings
    ]
    return table(head, ("Claim", "Change", "Before", "After", "Difference"), rows) if rows else ""


def _seen(one: Seen | None) -> str:
    if one is None:
        return "not in this run"
    spoilt = " **its record is not what it says**" if one.problems else ""
    return f"{one.verdict}: {text(one.figure or one.reason)}{spoilt}"


def _provenance(both: Comparison) -> str:
    rows = [(text(name), code(before), code(after)) for name, before, after in both.differences]
    if not rows:
        return ""
    return _folded(f"{len(rows)} differences of provenance", table("", ("Entry", "Before", "After"), rows))


def _folded(head: str, body: str) -> str:
    return f"<details><summary>{head}</summary>\n{body}\n</details>\n" if body else ""
