"""Whatever was edited in a record: the report is made, well formed, and never a traceback."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from html_checks import Page
from hypothesis import example, given, settings
from hypothesis import strategies as st
from records import contract_at, kinds, relist, write_run
from reported import MADE, reported

from refute.report.page.compare import compare
from refute.report.page.compared_markdown import compared_markdown
from refute.report.page.markdown import markdown
from refute.report.page.render import compared, page
from refute.strict_json import dump_strict, load_strict

VALUES = (None, True, 0, -1, 1e300, 2**53, "", "x\x00<b>", [], {}, [None], {"a": {"b": 1}}, "REMOVED")
FILES = ("findings.json", "floor.json", "exact.json")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Path]:
    folder = tmp_path_factory.mktemp("edited")
    contract, tree = contract_at(folder / "contracts"), folder / "evidence"
    return contract, *(write_run(tree, contract, ["floor", "exact"], number=number) for number in (1, 2))


def places(value: Any, steps: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every member of nested data, of lists the first ones."""
    members = value.items() if isinstance(value, dict) else enumerate(value[:3])
    for step, member in members:
        yield (*steps, step)
        if isinstance(member, dict | list):
            yield from places(member, (*steps, step))


def edited(document: Any, steps: tuple[Any, ...], value: Any) -> bytes:
    at = document
    for step in steps[:-1]:
        at = at[step]
    if value == "REMOVED" and isinstance(at, dict):
        del at[steps[-1]]
    else:
        at[steps[-1]] = value
    return dump_strict(document)


@settings(max_examples=settings().max_examples // 2)  # whole pages
@given(st.sampled_from(FILES), st.integers(0, 10**6), st.sampled_from(VALUES), st.booleans())
@example("exact.json", ("bound", "confidence"), "REMOVED", True)
@example("exact.json", ("verdict",), "REMOVED", True)
@example("exact.json", ("target", "settings", "backend"), "REMOVED", True)
@example("floor.json", ("bound", "above"), 1e300, True)
def test_an_edited_record_is_reported_and_compared_like_any_other(honest, name, place, value, rehash) -> None:
    contract, run, other = honest
    kept = {each: (run / each).read_bytes() for each in (name, "findings.json")}
    document = load_strict(kept[name])
    steps = place if isinstance(place, tuple) else (every := list(places(document)))[place % len(every)]
    try:
        (run / name).write_bytes(edited(document, steps, value))
        if rehash and name != "findings.json":
            with suppress(KeyError):  # a finding without a verdict cannot be listed
                relist(run, name)
        report = reported(contract, run.parents[1])
        both = compare([run], [other], kinds=kinds, made=MADE, version="0.1.0")
        for made in (page(report), compared(both)):
            assert Page.of(made).faults == []
        assert markdown(report)
        assert compared_markdown(both)
    finally:
        for each, data in kept.items():
            (run / each).write_bytes(data)
