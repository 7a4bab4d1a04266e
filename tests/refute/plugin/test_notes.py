"""What a target says when it is opened is shown once, and how far it is while it is opened."""

import io

import pytest
from rich.console import Console

from refute.report.live import Live
from refute.report.words import loaded
from refute.select import Selection
from refute.session import Attacker
from refute.targets.fake import FakeTarget


@pytest.fixture
def noted(monkeypatch):
    monkeypatch.setattr(FakeTarget, "notes", ("computes on a toy",), raising=False)


@pytest.mark.usefixtures("noted")
def test_it_is_shown_once_however_many_falsifiers_follow(project, decide):
    decide()
    lines = project.run("contracts").stdout.lines
    assert lines.count("refute: computes on a toy") == 1


@pytest.mark.usefixtures("noted")
def test_displays_are_told_once(project, decide):
    decide()
    project.pytester.makeconftest(
        "def pytest_refute_note(sentence):\n    with open('told', 'a') as f:\n        f.write(sentence)\n"
    )
    project.run("contracts")
    assert (project.pytester.path / "told").read_text() == "computes on a toy"


def test_a_display_shows_it():
    out = io.StringIO()
    Live(Console(file=out)).note("computes on a toy")
    assert out.getvalue() == "computes on a toy\n"


def test_loading_is_a_bar_with_a_share():
    assert [loaded("reading", done, 4) for done in (0, 1, 4)] == [
        f"reading {'╌' * 20} 0%",
        f"reading {'━' * 5}{'╌' * 15} 25%",
        f"reading {'━' * 20} 100%",
    ]
    assert loaded("reading", 0, 0).endswith("100%")


def test_while_a_target_is_opened_the_stage_says_how_far(monkeypatch):
    stages = []
    attacker = Attacker(
        selection=Selection("fake", None, "simulated", "auto", "auto"),
        run="r",
        seed=0,
        room=None,
        evidence=None,
        faults_only=False,
        every_fault=False,
        requested=None,
        report=lambda contract, stage: stages.append((contract, stage.falsifier, stage.doing)),
    )
    attacker._at = ("c", "f")
    monkeypatch.setattr("refute.session._PERIOD", -1.0)

    def opened(_, progress):
        progress("reading the model", 1, 2)
        return FakeTarget()

    monkeypatch.setattr(Selection, "open", opened)
    assert attacker._open() is not None
    assert stages == [("c", "f", loaded("reading the model", 1, 2))]
