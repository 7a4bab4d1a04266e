"""A plan, and what the gate says after it, as lines for people."""

import io
from datetime import UTC, datetime

from records import EMBEDDED, FULL, OTHER, PRESENT, RED, kinds, target, write_run
from rich.console import Console

from refute.counting import Counting
from refute.estimate import Estimate
from refute.gate import gate
from refute.plan import Subject, plan
from refute.policy import no_policy
from refute.report.plan import show_outcome, show_plan


def decided(contract, tree, profile):
    return gate([contract], [tree], profile=profile, present=PRESENT, kinds=kinds)


def lines(show, *arguments):
    out = io.StringIO()
    show(*arguments, Console(file=out, width=120))
    return out.getvalue().splitlines()


def planned(contract, tree, model, seconds=90.0, *, least=False):
    made = plan(
        decided(contract, tree, "release"),
        [contract],
        Subject(target(model), "a" * 64),
        counting=Counting("release", no_policy(), datetime.now(UTC)),
        present=PRESENT,
        estimate=lambda claim, falsifier: Estimate(seconds, "sizes", least),
    )
    return lines(show_plan, made)


def test_a_plan_says_level_estimate_and_sum_and_what_is_left_out(contract, tree):
    write_run(tree, contract, ["exact"])
    shown = planned(contract, tree, EMBEDDED)
    assert any(line.split() == ["floor", "embedded", "90", "s", "sizes"] for line in shown)
    assert "left out  1 falsifier: survived already" in shown
    assert shown[-1] == "2 falsifiers to attack, about 3 m 00 s in all"


def test_what_discharges_nothing_is_said(contract, tree):
    assert any("level other" in line for line in planned(contract, tree, OTHER))
    assert not any("note" in line for line in planned(contract, tree, EMBEDDED))


def test_without_any_estimate_the_sum_is_unknown(contract, tree):
    assert planned(contract, tree, EMBEDDED, None)[-1] == "3 falsifiers to attack, unknown in all"


def test_a_lower_bound_makes_the_sum_one(contract, tree):
    shown = planned(contract, tree, EMBEDDED, least=True)
    assert any(line.split() == ["floor", "embedded", "at", "least", "90", "s", "sizes"] for line in shown)
    assert shown[-1] == "3 falsifiers to attack, at least 4 m 30 s in all"


def test_what_a_run_changed_is_told_apart_from_what_is_open(contract, tree):
    before = decided(contract, tree, "release")
    write_run(tree, contract, number=1)
    write_run(tree, contract, ["exact"], number=2, model=FULL)
    shown = lines(show_outcome, before, decided(contract, tree, "release"))
    assert "gate profile release, after this run" in shown
    discharged = next(line for line in shown if line.startswith("discharged"))
    assert discharged.split("  ")[1:] == ["demo-v1/exact, demo-v1/small"]
    assert any(line.startswith("open  ") and "(demo-v1/floor)" in line for line in shown)
    assert shown[-1] == "gate release: closed; 2 of 3 claims pass"


def test_claims_that_lack_the_same_are_told_once_with_the_run_that_gives_it(contract, tree):
    decision = decided(contract, tree, "pr")
    shown = lines(show_outcome, decision, decision)
    assert "gate profile pr, as it stands" in shown
    assert [line for line in shown if line.startswith("open")] == [
        "open        unobserved: no record at level embedded (demo-v1/exact, demo-v1/floor, demo-v1/small)"
    ]
    assert "            $ refute run --profile pr" in shown


def test_a_falsified_claim_is_told_with_what_clears_it(contract, tree):
    write_run(tree, contract, ["exact"], values=RED)
    decision = decided(contract, tree, "pr")
    shown = lines(show_outcome, decision, decision)
    remedy = next(place for place, line in enumerate(shown) if "mend the engine" in line)
    assert shown[remedy + 1] == f"            $ refute run {contract.path} -k exact --backend array"
