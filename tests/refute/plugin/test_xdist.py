"""Under xdist the workers attack and the controller keeps one record."""

import pytest
from small_contract import CACHED, FLOOR, REPEATS, contract, falsifier


def test_workers_write_into_one_record(project):
    project.write(contract(REPEATS, CACHED))
    result = project.run_apart("-n", "2", "contracts")
    result.assert_outcomes(passed=2)
    assert project.summaries()["small-v1"]["state"] == "complete"
    assert project.verdicts() == {"repeats": "survived", "cached": "survived"}


def test_what_workers_attack_is_watched_by_the_controller(project):
    project.write(contract(REPEATS, CACHED))
    project.run_apart("-n", "2", "contracts")
    (path,) = (project.pytester.path / "evidence").glob("*/*/telemetry.jsonl")
    # One at the start, one at the end, and two for each attack; more where it takes a second.
    assert len(path.read_text().splitlines()) >= 6


LOG_SPANS = """
import contextlib, functools, os, pathlib, time, refute.room, refute.targets.fake

@contextlib.contextmanager
def logged(what):
    begin = time.monotonic()
    yield
    with pathlib.Path('spans').open('a') as spans:
        spans.write(f'{what} {os.getpid()} {begin} {time.monotonic()}\\n')

target, room = refute.targets.fake.FakeTarget, refute.room.Room
generate, to_oneself = target.generate, room.to_oneself

def logged_generate(self, *args, **kwargs):
    with logged('generate'):
        return generate(self, *args, **kwargs)

@contextlib.contextmanager
def logged_alone(self):
    with to_oneself(self), logged('alone'):
        yield

target.generate, room.to_oneself = logged_generate, logged_alone
"""


def spans(project):
    """What each worker did: what, its process, begin and end on one clock of the host."""
    lines = (project.pytester.path / "spans").read_text().splitlines()
    for what, process, begin, end in map(str.split, lines):
        yield what, process, float(begin), float(end)


@pytest.mark.parametrize("spread", [(), ("--dist", "worksteal")], ids=["load", "a scheduler of the user's"])
def test_a_claim_about_time_is_attacked_alone(project, spread):
    project.pytester.makeconftest(LOG_SPANS)
    others = [falsifier(f"other-{n}", REPEATS) for n in range(4)]
    project.write(contract(falsifier("timed-0", FLOOR), *others, CACHED, falsifier("timed-1", FLOOR)))
    project.run_apart("-n", "2", *spread, "contracts").assert_outcomes(passed=7)
    alone = [span for span in spans(project) if span[0] == "alone"]
    assert len(alone) == 2
    assert len({process for _, process, _, _ in spans(project)}) == 2
    for _, process, begin, end in alone:
        beside = [span for span in spans(project) if span[1] != process and span[2] < end and span[3] > begin]
        assert beside == []


def test_another_test_does_not_run_beside_a_claim_about_time(project):
    project.pytester.makeconftest(LOG_SPANS)
    project.pytester.makepyfile(
        test_own="import time, conftest\ndef test_own():\n    with conftest.logged('own'): time.sleep(0.05)\n"
    )
    project.run_apart("-n", "2", "contracts", "test_own.py")
    (alone,) = [span for span in spans(project) if span[0] == "alone"]
    (own,) = [span for span in spans(project) if span[0] == "own"]
    assert own[3] <= alone[2] or own[2] >= alone[3]


def test_a_worker_that_dies_does_not_lose_the_claims_about_time(project):
    project.pytester.makeconftest(
        "import os, pytest\n"
        "@pytest.fixture(autouse=True)\n"
        "def crash(request):\n"
        "    if request.node.name == 'repeats': os._exit(1)\n"
    )
    project.run_apart("-n", "2", "contracts")
    assert project.verdicts() == {"cached": "survived", "floor": "survived"}


def test_a_worker_that_dies_leaves_its_falsifier_unobserved(project):
    project.pytester.makeconftest(
        "import os, pytest\n"
        "@pytest.fixture(autouse=True)\n"
        "def crash(request):\n"
        "    if request.node.name == 'cached': os._exit(1)\n"
    )
    project.write(contract(REPEATS, CACHED))
    result = project.run_apart("-n", "1", "contracts")
    assert result.ret == 1
    assert project.verdicts() == {"repeats": "survived"}
    assert project.summaries()["small-v1"]["state"] == "interrupted"
    result.stdout.fnmatch_lines(["*cached *unobserved*"])
