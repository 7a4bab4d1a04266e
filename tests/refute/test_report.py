"""Status and decisions as text: complete at every width, plain where the output is no terminal."""

import dataclasses
import io
import re

import pytest
from records import CONTRACT, PRESENT, RED, contract_at, edit, finding, kinds, opened, write_run
from rich.console import Console

from refute.gate import gate
from refute.report.terminal import show_decision, show_status
from refute.status import status
from refute.verdict import Verdict


def shown(thing, show, monkeypatch, *, terminal, width=120, color=True):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    if not color:
        monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = io.StringIO()
    show(thing, Console(file=stream, force_terminal=terminal, width=width, highlight=False))
    return stream.getvalue()


def overview(contract, tree):
    return status([contract], [tree], present=PRESENT, kinds=kinds)


def decision(contract, tree, profile="pr"):
    return gate([contract], [tree], profile=profile, present=PRESENT, kinds=kinds)


def test_without_a_terminal_status_is_a_line_per_claim(contract, tree, monkeypatch):
    write_run(tree, contract, ["exact", "floor"], values=RED)
    text = shown(overview(contract, tree), show_status, monkeypatch, terminal=False, width=30)
    lines = text.splitlines()
    assert [line.split("  ")[:2] for line in lines[:3]] == [
        ["falsified", "demo-v1/exact"],
        ["falsified", "demo-v1/floor"],
        ["unobserved", "demo-v1/small"],
    ]
    assert lines[3:] == ["claims: 2 falsified, 1 unobserved; runs read: 1"]
    assert "\x1b" not in text


def plain(text):
    return re.sub(r"\x1b\[[\d;]*m", "", text)


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_a_table_fits_its_terminal_and_loses_nothing_that_blocks(contract, tree, monkeypatch, width):
    write_run(tree, contract, ["exact"])
    text = plain(shown(overview(contract, tree), show_status, monkeypatch, terminal=True, width=width))
    table = text.partition("open: ")[0]
    assert max(map(len, table.splitlines())) <= width
    squeezed = "".join(table.split())
    if width >= 100:
        assert "0of3cases,rate<63.2%" in squeezed
    assert "(exact)" in text
    assert "(floor, small)" in text
    commands = [line for line in text.splitlines() if "$ refute" in line]
    assert [line.rstrip().endswith("--model /path/to/Big-Model.gguf") for line in commands] == [True, False]


@pytest.mark.parametrize("color", [True, False])
def test_no_color_is_respected(contract, tree, monkeypatch, color):
    write_run(tree, contract)
    for thing, show in ((overview, show_status), (decision, show_decision)):
        text = shown(thing(contract, tree), show, monkeypatch, terminal=True, color=color)
        assert ("\x1b[32m" in text or "\x1b[36m" in text) is color


def test_a_decision_says_why_it_is_closed_and_its_exit_code(contract, tree, monkeypatch):
    write_run(tree, contract, ["exact", "floor"])
    text = shown(decision(contract, tree), show_decision, monkeypatch, terminal=False)
    assert "fails  demo-v1/small  unobserved: no record at level embedded  refute run " in text
    assert text.splitlines()[-1] == "gate pr: closed; 2 pass, 1 fail; exit code 5"


def test_an_open_gate_shows_what_is_left_for_the_full_model(contract, tree, monkeypatch):
    write_run(tree, contract)
    for terminal in (True, False):
        text = shown(decision(contract, tree), show_decision, monkeypatch, terminal=terminal, color=False)
        assert text.count("full-model: open") == 2
        assert "gate pr: open; 3 pass; exit code 0" in text


def test_no_records_at_all_is_said(contract, tree, monkeypatch):
    text = shown(decision(contract, tree), show_decision, monkeypatch, terminal=False)
    assert "there are no records at all" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_record_says_is_text_and_no_command_to_the_terminal(contract, tree, monkeypatch, terminal):
    writer = opened(tree, contract, ["exact"])
    writer.write(finding(contract, "exact", writer.run))
    writer.seal()
    hostile = "[bold]\x1b]0;owned\x07[/nonsense]\n\u202eevil"
    edit(writer.path / "exact.json", lambda d: d.update(reason=hostile), rehash=True)
    text = shown(
        overview(contract, tree), show_status, monkeypatch, terminal=terminal, width=160, color=False
    )
    assert "[/nonsense]" in text
    assert "\x1b]0" not in text
    assert "\x07" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_that_was_lowered_after_a_falsification_is_said(contract, tree, monkeypatch, terminal):
    write_run(tree, contract, ["floor"], values=RED)
    now = contract_at(tree.parent / "now", CONTRACT.replace("above: 5 tok/s", "above: 1 tok/s"))
    for thing, show in ((overview, show_status), (decision, show_decision)):
        text = plain(shown(thing(now, tree), show, monkeypatch, terminal=terminal))
        assert "flagged: demo-v1/floor: loosened after a falsification, since version 1.0.0: above:" in text


def test_runs_of_unknown_contracts_are_named(contract, tree, monkeypatch):
    path = write_run(tree, contract, ["exact"])
    nothing = status([], [tree], present=PRESENT, kinds=kinds)
    text = shown(nothing, show_status, monkeypatch, terminal=False)
    assert f"not counted: {path}, whose contract was not given" in text


def test_verdicts_are_not_mistaken_for_statuses(contract, tree, monkeypatch):
    write_run(tree, contract, ["exact"])
    text = shown(overview(contract, tree), show_status, monkeypatch, terminal=False)
    assert text.startswith("open")
    assert Verdict.SURVIVED.value not in text.split("  ")[0]


def test_a_group_is_told_with_a_command_that_clears_all_of_it(contract, tree, monkeypatch):
    text = plain(shown(overview(contract, tree), show_status, monkeypatch, terminal=True, width=300))
    assert "unobserved: no run has given a verdict yet (exact, floor, small)" in text
    assert f"    $ refute run {contract.path} -k 'exact or floor or small'" in text


def test_where_no_command_clears_a_group_that_is_said(contract, tree, monkeypatch):
    whole = overview(contract, tree)
    first, *others = whole.claims
    whole = dataclasses.replace(whole, claims=(dataclasses.replace(first, command="git log"), *others))
    text = plain(shown(whole, show_status, monkeypatch, terminal=True, width=300))
    assert "    $ git log" in text
    assert "    clears the first of them; for the others: refute status CLAIM" in text
