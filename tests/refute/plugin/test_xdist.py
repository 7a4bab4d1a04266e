"""Under xdist the workers attack and the controller keeps one record."""

from small_contract import CACHED, REPEATS, contract


def test_workers_write_into_one_record(project):
    project.write(contract(REPEATS, CACHED))
    result = project.run_apart("-n", "2", "contracts")
    result.assert_outcomes(passed=2)
    assert project.summaries()["small-v1"]["state"] == "complete"
    assert project.verdicts() == {"repeats": "survived", "cached": "survived"}


def test_time_is_not_measured_beside_other_workers(project):
    result = project.run_apart("-n", "2", "-k", "floor or repeats", "contracts")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*timing needs the host alone, but 2 workers share it: run without -n"])
    assert project.verdicts()["floor"] == "inconclusive"


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
