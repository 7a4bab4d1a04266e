"""Under xdist the workers attack and the controller keeps one record."""

from small_contract import CACHED, FLOOR, REPEATS, contract, falsifier


def test_workers_write_into_one_record(project):
    project.write(contract(REPEATS, CACHED))
    result = project.run_apart("-n", "2", "contracts")
    result.assert_outcomes(passed=2)
    assert project.summaries()["small-v1"]["state"] == "complete"
    assert project.verdicts() == {"repeats": "survived", "cached": "survived"}


def test_a_scheduler_of_the_users_own_does_not_measure_time_beside_other_workers(project):
    result = project.run_apart("-n", "2", "--dist", "loadfile", "-k", "floor or repeats", "contracts")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*timing needs the host alone, but 2 workers share it: run with --dist=load"]
    )
    assert project.verdicts()["floor"] == "inconclusive"


def intervals(project):
    """Begin and end of every falsifier, by name, on one clock of the host."""
    lines = (project.pytester.path / "spans").read_text().splitlines()
    return {name: (float(begin), float(end)) for name, begin, end in map(str.split, lines)}


LOG_SPANS = """
import pathlib, time, pytest
@pytest.fixture(autouse=True)
def span(request):
    begin = time.monotonic()
    if not request.node.name.startswith('timed'): time.sleep(0.2)
    yield
    with pathlib.Path('spans').open('a') as spans:
        spans.write(f'{request.node.name} {begin} {time.monotonic()}\\n')
"""


def test_claims_about_time_come_last_and_alone(project):
    project.pytester.makeconftest(LOG_SPANS)
    names = ["timed-0", "other-0", "timed-1", "other-1"]
    templates = [falsifier(name, FLOOR if "timed" in name else REPEATS) for name in names]
    project.write(contract(*templates, CACHED))
    project.run_apart("-n", "2", "contracts").assert_outcomes(passed=5)
    spans = intervals(project)
    assert set(spans) == {*names, "cached"}
    assert min(begin for name, (begin, _) in spans.items() if "timed" in name) >= max(
        end for name, (_, end) in spans.items() if "timed" not in name
    )


def test_a_worker_that_dies_before_the_claims_about_time_does_not_lose_them(project):
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
