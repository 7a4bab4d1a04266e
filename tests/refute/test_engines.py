"""The table of engines in the documentation is the one that contracts and dialects give."""

from pathlib import Path

from refute.contract import load_contract
from refute.kinds import INSTALLED
from refute.report.engines import applicability
from refute.wire.dialects import DIALECTS
from refute.wire.endpoint import Dialect

ROOT = Path(__file__).parents[2]


def table(dialects):
    contracts = [load_contract(path, kinds=INSTALLED) for path in sorted((ROOT / "contracts").glob("*.yaml"))]
    return applicability(contracts, dialects)


def test_the_documentation_has_the_table():
    text = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    expected = "\n".join(table(DIALECTS.values()))
    assert expected in text, f"docs/engines.md: expected this table:\n{expected}"


def test_what_an_engine_does_not_promise_does_not_apply():
    rows = table([Dialect("plain", frozenset({"http"})), Dialect("seeded", frozenset({"http", "http_seed"}))])
    cells = {row.split(" | ")[0].removeprefix("| "): row.removesuffix(" |").split(" | ")[1:] for row in rows}
    assert cells["openai-chat-completions-v1/temperature-0-repeats"] == ["yes", "yes"]
    assert cells["openai-chat-completions-v1/seeds-repeat"] == ["-", "yes"]
    assert "qwen3-moe-kv-cache-v1/cache-token-exact" not in cells
