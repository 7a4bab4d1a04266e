"""`refute audit` as it is typed: text, JSON, the table of rules, exit codes."""

import json
import shutil

import pytest

from refute.audit.rules import OF_RUNS, OF_TREES
from refute.cli import main


@pytest.fixture
def repository(audited, tmp_path, monkeypatch):
    shutil.copytree(audited.tree.parent, tmp_path / "repository")
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path / "repository"


def test_an_honest_tree_is_told_in_a_line(repository, capsys):
    assert main(["audit"]) == 0
    lines = capsys.readouterr().out.splitlines()
    count = len(OF_RUNS) + len(OF_TREES)
    counts = f"2 runs, 6 findings, 6 judged again, {count} rules"
    assert lines[-1] == f"audit: the evidence holds: 0 errors, 0 warnings, 1 note ({counts})"
    assert len(lines) == 2


def test_a_tampered_tree_is_told_rule_by_rule(repository, capsys):
    run = min((repository / "evidence" / "audited-v1").iterdir())
    text = (run / "floor.json").read_text().replace('"verdict": "survived"', '"verdict": "falsified"')
    (run / "floor.json").write_text(text)
    assert main(["audit"]) == 4
    shown = capsys.readouterr().out
    assert (
        f"error derived-verdict: evidence/audited-v1/{run.name}/floor.json#/verdict: found falsified" in shown
    )
    assert "error history-unedited: " in shown
    assert "audit: the evidence does not hold: " in shown


def test_json_has_every_objection(repository, capsys):
    assert main(["audit", "evidence", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [each["rule"] for each in data["objections"]] == ["run-whole"]


def test_nothing_to_audit_is_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["audit"]) == 5
    assert "nothing to audit in evidence; expected CONTRACT/RUN/" in capsys.readouterr().out


def test_contracts_that_cannot_be_read_are_a_usage_error(repository, capsys):
    (repository / "contracts" / "audited-v1.yaml").write_text("id: [")
    assert main(["audit"]) == 2
    assert "contracts/audited-v1.yaml:" in capsys.readouterr().err


def test_the_rules_can_be_listed(capsys):
    assert main(["audit", "--rules"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(OF_RUNS) + len(OF_TREES)
    assert [line.split()[1] for line in lines] == [rule.id for rule in (*OF_RUNS, *OF_TREES)]
    assert main(["audit", "--rules", "--json"]) == 0
    assert {each["id"] for each in json.loads(capsys.readouterr().out)} == {
        rule.id for rule in (*OF_RUNS, *OF_TREES)
    }


@pytest.mark.parametrize("nonce", ["", " "])
def test_an_empty_nonce_is_refused(repository, capsys, nonce):
    with pytest.raises(SystemExit, match="2"):
        main(["audit", "--challenge", nonce])
    assert "the nonce is empty" in capsys.readouterr().err


def test_control_characters_of_a_record_are_shown_and_not_sent(repository, capsys):
    (repository / "evidence" / "audited-v1" / "\x1b[31mred").write_text("")
    main(["audit"])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\\x1b[31mred" in shown
