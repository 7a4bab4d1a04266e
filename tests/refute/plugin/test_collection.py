"""Contracts become nodes; bad ones become sentences."""

from small_contract import CACHED, REPEATS, contract, falsifier


def test_node_ids_are_file_and_falsifier_in_the_order_of_the_file(project):
    project.write(contract(falsifier("zebra"), falsifier("ant")))
    result = project.run("--collect-only", "-q", "contracts")
    assert result.outlines[:2] == ["contracts/small-v1.yaml::zebra", "contracts/small-v1.yaml::ant"]
    assert result.ret == 0


def test_collecting_attacks_nothing_and_records_nothing(project, decide):
    asked = decide()
    project.run("--collect-only", "contracts")
    assert not asked
    assert not (project.pytester.path / "evidence").exists()


def test_a_bad_contract_is_sentences_with_their_place_and_exit_code_2(project):
    project.write(contract().replace("kind: tok-floor", "kind: tok-flor"))
    result = project.run("contracts")
    assert result.ret == 2
    result.stdout.fnmatch_lines(["contracts/small-v1.yaml:*:*: *'tok-flor'*tok-floor*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_contracts_that_only_clash_with_each_other_are_refused_where_the_second_is(project):
    project.write(contract())
    project.write(contract(REPEATS, id="other-v1"), "other-v1")
    result = project.run("contracts")
    assert result.ret == 2
    result.stdout.fnmatch_lines(
        ["contracts/small-v1.yaml:*: alias 'ALIAS_REPEATS' is taken at contracts/other-v1.*"]
    )


def test_yaml_that_is_no_contract_is_left_alone(project):
    (project.pytester.path / "contracts/openapi.yaml").write_text("openapi: 3.1.0\ninfo: {}\n")
    project.pytester.mkdir("elsewhere")
    project.write(contract(id="other-v1"), "other-v1", "elsewhere")
    result = project.run("--collect-only", "-q", ".")
    assert [line for line in result.outlines if "::" in line] == [
        f"contracts/small-v1.yaml::{id}" for id in ("repeats", "cached", "floor")
    ]


def test_in_folders_that_the_ini_file_names_every_yaml_file_is_a_contract(project):
    project.pytester.makeini("[pytest]\nrefute_contracts = promises\n")
    project.write(contract(REPEATS, id="other-v1"), "other-v1", "promises")
    result = project.run("--collect-only", "-q", ".")
    assert [line for line in result.outlines if "::" in line] == ["promises/other-v1.yaml::repeats"]
    (project.pytester.path / "promises/empty.yaml").write_text("title: of nothing\n")
    assert project.run("--collect-only", "-q", ".").ret == 2


def test_an_item_points_at_its_line_in_the_contract(project):
    path = project.write(contract(REPEATS, CACHED))
    line = path.read_text().splitlines().index("  - id: cached")
    items, _ = project.pytester.inline_genitems(path)
    item = next(item for item in items if item.name == "cached")
    assert item.reportinfo()[:2] == (path, line)


def test_fixtures_of_the_project_apply(project, decide):
    decide()
    project.pytester.makeconftest(
        "import pytest\n"
        "@pytest.fixture(autouse=True)\n"
        "def mine(request): pytest.skip('mine ' + request.node.name)"
    )
    result = project.run("-rs", "contracts")
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(["*mine repeats*"])
