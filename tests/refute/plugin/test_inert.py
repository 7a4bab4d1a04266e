"""Where there are no contracts nobody notices the plugin."""

import sys

HEAVY = (
    "numpy",
    "hypothesis",
    "jsonschema",
    "gguf",
    "rich",
    "tokenizers",
    "jinja2",
    "yaml",
    "refute_runtime",
)


def test_loading_the_plugin_imports_nothing_heavy(pytester):
    code = f"import sys, refute.plugin; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert pytester.run(sys.executable, "-c", code).outlines == ["[]"]


def test_importing_refute_imports_nothing_else(pytester):
    code = "import sys, refute; print([name for name in sys.modules if name.startswith('refute.')])"
    assert pytester.run(sys.executable, "-c", code).outlines == ["[]"]


def test_a_project_without_contracts_sees_nothing(pytester):
    pytester.makepyfile(test_own="def test_own(): pass")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    assert not [
        line for line in result.outlines if "refute" in line and not line.startswith(("plugins:", "rootdir:"))
    ]
    assert not (pytester.path / "evidence").exists()


def test_tests_beside_contracts_see_nothing(project):
    project.pytester.makepyfile(test_own="def test_own(): pass")
    result = project.run("test_own.py")
    result.stdout.no_fnmatch_line("refute: *")
    assert not (project.pytester.path / "evidence").exists()


def test_switched_off_it_is_gone(project):
    result = project.pytester.runpytest_inprocess("-p", "no:refute", "--collect-only", "-q", ".")
    result.stdout.no_fnmatch_line("*small-v1*")
    assert result.ret == 5
    assert (
        "--refute-model" not in project.pytester.runpytest_inprocess("-p", "no:refute", "--help").stdout.str()
    )
