"""A verdict is not drawn again until it pleases."""

RERUNS = "def pytest_addoption(parser): parser.addoption('--reruns', type=int, default=0)\n"


def test_reruns_are_refused_for_falsifiers(project, decide):
    asked = decide()
    project.pytester.makeconftest(RERUNS)
    result = project.run("--reruns=2", "contracts")
    assert result.ret == 4
    assert not asked
    result.stderr.fnmatch_lines(["ERROR: refute: *never run again until they pass*"])


def test_flaky_marks_are_refused_for_falsifiers(project, decide):
    decide()
    project.pytester.makeconftest(
        "def pytest_configure(config): config.addinivalue_line('markers', 'flaky: again')\n"
        "def pytest_collection_modifyitems(items):\n"
        "    for item in items: item.add_marker('flaky')\n"
    )
    assert project.run("contracts").ret == 4


def test_reruns_of_other_tests_are_no_business_of_ours(project):
    project.pytester.makeconftest(RERUNS)
    project.pytester.makepyfile(test_own="def test_own(): pass")
    project.run("--reruns=2", "test_own.py").assert_outcomes(passed=1)
