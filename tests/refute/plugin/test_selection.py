"""Choosing falsifiers is as in any pytest run."""

import pytest

from refute.verdict import Verdict


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (["-k", "repeats", "contracts"], ["repeats"]),
        (["-k", "ALIAS_REPEATS", "contracts"], ["repeats"]),
        (["-k", "not floor", "contracts"], ["repeats", "cached"]),
        (["-m", "falsifier(kind='tok-floor')", "contracts"], ["floor"]),
        (["-m", "falsifier(contract='small-v1')", "contracts"], ["repeats", "cached", "floor"]),
        (["contracts/small-v1.yaml::cached"], ["cached"]),
        (["--deselect", "contracts/small-v1.yaml::cached", "contracts"], ["repeats", "floor"]),
    ],
)
def test_chosen(project, decide, arguments, chosen):
    asked = decide()
    project.run(*arguments)
    assert asked == chosen


def test_last_failed_runs_again_what_was_not_green(project, decide):
    asked = decide(Verdict.NOT_APPLICABLE, cached=Verdict.INCONCLUSIVE)
    project.run("contracts")
    asked.clear()
    result = project.run("--lf", "contracts")
    assert asked == ["cached"]
    assert result.ret == 1


def test_exitfirst_stops_at_the_first_that_is_not_green(project, decide):
    asked = decide(Verdict.INCONCLUSIVE)
    result = project.run("-x", "contracts")
    assert asked == ["repeats"]
    assert result.ret == 1
