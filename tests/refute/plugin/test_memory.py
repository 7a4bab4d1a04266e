"""A counterexample is a file of its own, runs first next time, and cannot break a run."""

import json

import pytest
from small_contract import REPEATS, contract

from refute.cli import main
from refute.verdict import Exit

BROKEN = """\
from dataclasses import replace

import refute.select
from refute.targets.fake import FakeTarget

class Broken(FakeTarget):
    def generate(self, request):
        if not request.sampling.temperature:
            request = replace(request, sampling=replace(request.sampling, temperature=1.0))
        return super().generate(request)

refute.select.Selection.open = lambda self, progress: Broken()
"""


@pytest.fixture
def broken(project):
    """A project whose engine samples where it should be greedy; the control stays honest."""
    project.write(contract(REPEATS))
    project.pytester.makeconftest(BROKEN)
    return project


def findings(project):
    runs = sorted((project.pytester.path / "evidence" / "small-v1").iterdir())
    return [json.loads((run / "repeats.json").read_text()) for run in runs]


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["one process", "xdist"])
def test_a_counterexample_is_listed_and_runs_first_next_time(broken, workers):
    broken.run_apart(*workers, "contracts").assert_outcomes(failed=1)
    (file,) = (broken.pytester.path / "evidence").glob("*/*/repeats.counterexample.json")
    listed = json.loads((file.parent / "findings.json").read_text())["files"]
    assert file.name in [entry["file"] for entry in listed]
    case = json.loads(file.read_text())["case"]

    broken.run_apart(*workers, "contracts").assert_outcomes(failed=1)
    first, second = findings(broken)
    assert (first["verdict"], second["verdict"]) == ("falsified", "falsified")
    assert second["observations"][0]["case"] == case == second["counterexample"]["case"]
    assert len(second["observations"]) == 1


def test_its_file_replays(broken, capsys):
    broken.run_apart("contracts").assert_outcomes(failed=1)
    (file,) = (broken.pytester.path / "evidence").glob("*/*/repeats.counterexample.json")
    assert main(["replay", str(file)]) == Exit.OK  # on an honest engine
    assert "does not refute the claim now" in capsys.readouterr().out


def test_an_edited_case_cannot_break_a_run(broken):
    broken.run_apart("contracts").assert_outcomes(failed=1)
    (file,) = (broken.pytester.path / "evidence").glob("*/*/repeats.counterexample.json")
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "case": {"prompt": "none"}}))
    broken.run_apart("contracts").assert_outcomes(failed=1)
    assert findings(broken)[1]["verdict"] == "falsified"
