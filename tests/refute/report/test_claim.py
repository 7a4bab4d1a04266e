"""`refute status CLAIM`: which one is meant, all that is known of it, and a picture that fits any figures."""

import io
import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import (
    CONTRACT,
    GREEN,
    PRESENT,
    RED,
    contract_at,
    edit,
    finding,
    kinds,
    opened,
    run_id,
    write_run,
)
from rich.console import Console

from refute.cli import main
from refute.contract import Bound, load_contract
from refute.detail import UnknownClaim, claim_named, details
from refute.kinds.base import Drawn
from refute.policy import Invalidation, Policy, digest_of
from refute.policy_file import read_policy
from refute.report.claim import picture, show_claim
from refute.verdict import Exit, Verdict


def told(contract, tree, name, policy=None, *, terminal=False):
    (found,) = details([contract], [tree], [("demo-v1", name)], present=PRESENT, kinds=kinds, policy=policy)
    stream = io.StringIO()
    show_claim(found, Console(file=stream, force_terminal=terminal, width=80, highlight=False))
    return stream.getvalue()


# --- which one


@pytest.mark.parametrize("name", ["exact", "demo-v1/exact", "DEMO_EXACT", "demo_exact"])
def test_a_claim_is_named_by_id_whole_name_or_alias(contract, name):
    assert claim_named([contract], name) == ("demo-v1", "exact")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("exakt", "did you mean 'exact'?"),
        ("demo-v1/flor", "did you mean 'demo-v1/floor'?"),
        ("DEMO_EXAKT", "did you mean 'DEMO_EXACT'?"),
        ("nothing-like-it", "use one of DEMO_EXACT, demo-v1, demo-v1/exact,"),
    ],
)
def test_near_misses_are_suggested(contract, name, said):
    with pytest.raises(UnknownClaim) as error:
        claim_named([contract], name)
    assert str(error.value).startswith(f"{name}: no such claim, file or folder; {said}")


def test_a_falsifier_of_two_contracts_needs_its_whole_name(contract, tmp_path):
    other = CONTRACT.replace("demo-v1", "other-v1").replace("DEMO_EXACT", "OTHER_EXACT")
    path = tmp_path / "other-v1.yaml"
    path.write_text(other)
    with pytest.raises(UnknownClaim, match="demo-v1/exact, other-v1/exact"):
        claim_named([contract, load_contract(path)], "exact")


# --- what is said


def test_it_says_the_claim_what_blocks_it_and_what_clears_that(contract, tree):
    write_run(tree, contract, ["floor"])
    text = told(contract, tree, "floor")
    assert text.startswith("demo-v1/floor, version 1.0.0\n  The rate is at least 5 tokens per second.\n")
    assert (
        "  bound          median decode-rate at least 5 tok/s, 5 runs, 90 % confidence, testbeds: any" in text
    )
    assert "  needs          demo-v1/exact: unobserved" in text
    assert "open: needs demo-v1/exact, which has not survived on this engine and model" in text
    assert f"    $ refute run {contract.path} -k exact --backend array\n" in text


def test_a_falsified_claim_is_told_with_its_replay_and_with_lines_that_invalidate_it(contract, tree):
    path = write_run(tree, contract, ["exact"], values=RED)
    write_run(tree, contract, ["exact"], number=2, values=RED)
    lines = [line.strip() for line in told(contract, tree, "exact").splitlines()]
    assert f"$ refute replay {path}/exact.json" in lines
    start = lines.index("to invalidate, in pyproject.toml:") + 1
    pasted = "\n".join(lines[start : start + 10])
    (tree.parent / "pyproject.toml").write_text(pasted)
    given = read_policy(tree.parent, ["demo-v1/exact"], date(2026, 12, 1))
    assert given.problems == ()
    assert given.policy is not None
    after = told(contract, tree, "exact", given.policy)
    assert "unobserved: every attempt was invalidated" in after
    assert "to invalidate" not in after


def test_attempts_come_in_order_with_what_keeps_each_from_counting(contract, tree):
    write_run(tree, contract, ["floor"], number=1, values=RED, build="engine-build-0")
    write_run(tree, contract, ["floor"], number=2)
    path = write_run(tree, contract, ["floor"], number=3)
    edit(path / "floor.json", lambda d: d.update(figure="fine"), rehash=True)
    invalid = Invalidation("demo-v1/floor", run_id(2), "ben", "the disk was full")
    lines = told(contract, tree, "floor", Policy(digest_of({}), invalidations=(invalid,))).splitlines()
    start = lines.index("3 attempts, oldest first")
    shown = [" ".join(line.split()) for line in lines[start + 1 : start + 7]]
    assert shown[0] == (
        f"{run_id(1)} falsified 1 ≥ 5 tok/s embedded testbed aaaaaaaaaaaa refute_runtime engine-build"
    )
    assert shown[1].startswith("stale: the engine's code changed")
    assert shown[3] == f"run {run_id(2)} was invalidated by ben: the disk was full"
    assert shown[5].startswith("tampered: ")


def test_a_verdict_under_todays_contract_is_told_with_the_recorded_one(contract, tree):
    write_run(tree, contract, ["floor"], control={**GREEN, "floor": (20.0,) * 5})
    now = contract_at(tree.parent / "now", CONTRACT.replace("above: 5 tok/s", "above: 12 tok/s"))
    text = told(now, tree, "floor")
    assert " falsified " in text
    assert "recorded as survived: the median's interval" in text


def test_figures_are_drawn_against_the_bound(contract, tree):
    write_run(tree, contract, ["floor"])
    lines = told(contract, tree, "floor").splitlines()
    bars, interval, bound, scale = (line[2:] for line in lines[-4:])
    assert bars.rstrip()[-1] in "▁▂▃▄▅▆▇█"
    assert bound.startswith("^")
    assert bound.endswith("bound: ≥ 5 tok/s")
    assert interval.endswith("interval of the median: 8.5 tok/s to 9.5 tok/s")
    assert scale.startswith("5 tok/s ")
    assert scale.endswith(" 9.5 tok/s  5 figures")


def test_a_claim_without_figures_or_records_is_told_without_a_picture(contract, tree):
    text = told(contract, tree, "exact", terminal=True)
    assert "no run has given a verdict yet" in text
    assert text.rstrip().endswith("0 attempts")


def test_what_a_record_says_does_nothing_to_the_terminal(contract, tree):
    writer = opened(tree, contract, ["exact"])
    writer.write(finding(contract, "exact", writer.run))
    writer.seal()
    edit(writer.path / "exact.json", lambda d: d.update(figure="\x1b]0;x\x07[red]\n::error::x"), rehash=True)
    text = told(contract, tree, "exact")
    assert "\x1b]0" not in text
    assert "[red]" in text
    assert not any(line.startswith("::") for line in text.splitlines())


FIGURES = st.floats(allow_nan=True, allow_infinity=True)


@given(
    st.lists(FIGURES, max_size=12),
    st.none() | st.tuples(FIGURES, FIGURES),
    st.floats(1e-300, 1e300),
    st.booleans(),
)
def test_any_figures_fit_the_same_width(figures, interval, limit, above):
    side = {"above": limit} if above else {"below": limit}
    bound = Bound(confidence=0.9, of="x", statistic="median", unit="x", runs=1, **side)
    lines = list(picture(Drawn(figures, "run", "median", interval), bound))
    assert all(len(line.partition("  bound")[0].partition("  interval")[0]) <= 200 for line in lines)
    shown = sum(line.count(bar) for line in lines[:-1] for bar in "▁▂▃▄▅▆▇█")
    finite = [each for each in figures if each - each == 0]
    assert (shown > 0) == bool(finite)
    assert shown <= len(finite)


# --- the command line


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("refute.lint.lint", lambda *_, **__: [])
    return contract_at(tmp_path / "contracts")


def test_one_claim_as_json(project, tmp_path, capsys):
    write_run(tmp_path / "evidence", project)
    assert main(["status", "floor", "--json"]) == Exit.OK
    document = json.loads(capsys.readouterr().out)
    assert document["claim"]["falsifier"] == "floor"
    assert [each["verdict"] for each in document["tried"]] == [Verdict.SURVIVED]


def test_several_claims_and_a_contract(project, capsys):
    assert main(["status", "contracts/demo-v1.yaml", "floor", "demo_exact", "exact", "--json"]) == Exit.OK
    document = json.loads(capsys.readouterr().out)
    assert [each["claim"]["falsifier"] for each in document] == ["floor", "exact"]


def test_an_unknown_claim_ends_the_command(project, capsys):
    assert main(["status", "flor"]) == Exit.USAGE
    assert capsys.readouterr().err == "refute: flor: no such claim, file or folder; did you mean 'floor'?\n"


@pytest.mark.parametrize("name", ["demo-v1", "contracts/demo-v1.yaml"])
def test_the_claims_of_a_contract_by_id_or_file(project, tmp_path, capsys, name):
    other = project.path.with_name("other-v1.yaml")
    other.write_text(project.path.read_text().replace("demo-v1", "other-v1").replace("DEMO_", "OTHER_"))
    assert main(["status", name, "--json"]) == Exit.OK
    claims = json.loads(capsys.readouterr().out)["claims"]
    assert {each["contract"] for each in claims} == {"demo-v1"}
    assert [each["falsifier"] for each in claims] == [each.id for each in project.falsifiers]


def test_a_contract_and_a_claim_are_not_asked_for_together(project, capsys):
    assert main(["status", "demo-v1", "floor"]) == Exit.USAGE
    assert "demo-v1 is a contract and floor is not" in capsys.readouterr().err


def test_the_id_of_a_contract_is_suggested(project, capsys):
    assert main(["status", "demo-v2"]) == Exit.USAGE
    assert "did you mean 'demo-v1'?" in capsys.readouterr().err
