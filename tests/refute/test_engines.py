"""The table of engines in the documentation is the one that contracts and dialects give."""

from pathlib import Path

from applicability import applicability

from refute.contract import load_contract
from refute.kinds import INSTALLED
from refute.wire.dialects import ENGINES, Engine
from refute.wire.endpoint import Dialect

ROOT = Path(__file__).parents[2]


def table(engines):
    contracts = [load_contract(path, kinds=INSTALLED) for path in sorted((ROOT / "contracts").glob("*.yaml"))]
    return applicability(contracts, engines)


def test_the_documentation_has_the_table():
    text = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    expected = "\n".join(table(ENGINES))
    assert expected in text, f"docs/engines.md: expected this table:\n{expected}"


def test_what_an_engine_does_not_promise_does_not_apply():
    seeded = Dialect("seeded", frozenset({"http", "http_seed", "http_context"}))
    engines = [
        Engine(Dialect("plain", frozenset({"http"}))),
        Engine(seeded),
        Engine(seeded, only_if={"http_seed": ("option",)}),
    ]
    cells = {
        row.split(" | ")[0].removeprefix("| "): row.removesuffix(" |").split(" | ")[1:]
        for row in table(engines)
    }
    pack = "openai-chat-completions-v1"
    assert cells[f"{pack}/temperature-0-repeats"] == ["yes", "yes", "yes"]
    assert cells[f"{pack}/seeds-repeat"] == ["-", "yes", "asked"]
    assert cells[f"{pack}/context-overflow-is-400"] == ["-", "asked", "asked"]
    assert "qwen3-moe-kv-cache-v1/cache-token-exact" not in cells
