"""Which falsifier applies to which engine, from what contracts require and engines promise."""

from collections.abc import Iterable, Sequence

from refute.contract import Contract
from refute.kinds import kind_named
from refute.wire.dialects import Engine

_ASKED = frozenset({"http_context", "http_logprobs", "http_tools"})  # of every server, and its model


def applicability(contracts: Sequence[Contract], engines: Iterable[Engine]) -> list[str]:
    """Return a Markdown table of the falsifiers that need no more than an endpoint; a dash does not apply.

    `asked`: whether it applies to a server, its options and its model, the server tells at the start.
    """
    spoken = list(engines)
    head = ["falsifier", *(engine.dialect.name for engine in spoken)]
    rows = [head, ["---"] * len(head)]
    for contract in contracts:
        for falsifier in contract.falsifiers:
            needs = kind_named(falsifier.kind).requires | set(falsifier.requires)
            if "http" in needs:
                cells = [_cell(needs, engine) for engine in spoken]
                rows.append([f"{contract.id}/{falsifier.id}", *cells])
    return [f"| {' | '.join(row)} |" for row in rows]


def _cell(needs: frozenset[str], engine: Engine) -> str:
    if needs - engine.dialect.capabilities:
        return "-"
    if "http_counters" in needs:
        return "started by the run"
    return "asked" if needs & (_ASKED | set(engine.only_if)) else "yes"
