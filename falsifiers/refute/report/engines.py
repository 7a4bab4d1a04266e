"""Which falsifier applies to which engine, from what contracts require and dialects promise."""

from collections.abc import Iterable, Sequence

from refute.contract import Contract
from refute.kinds import kind_named
from refute.wire.endpoint import Dialect


def applicability(contracts: Sequence[Contract], dialects: Iterable[Dialect]) -> list[str]:
    """Return a Markdown table of the falsifiers that need no more than an endpoint; a dash does not apply.

    `asked`: the server is asked at the start whether it takes that with this model.
    """
    spoken = list(dialects)
    head = ["falsifier", *(dialect.name for dialect in spoken)]
    rows = [head, ["---"] * len(head)]
    for contract in contracts:
        for falsifier in contract.falsifiers:
            needs = set(kind_named(falsifier.kind).requires) | set(falsifier.requires)
            if "http" in needs:
                cells = [_cell(needs, dialect) for dialect in spoken]
                rows.append([f"{contract.id}/{falsifier.id}", *cells])
    return [f"| {' | '.join(row)} |" for row in rows]


def _cell(needs: set[str], dialect: Dialect) -> str:
    if needs - dialect.capabilities:
        return "-"
    if "http_counters" in needs:
        return "started by the run"
    return "asked" if "http_tools" in needs else "yes"
