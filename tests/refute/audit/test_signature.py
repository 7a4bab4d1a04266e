"""A signed tree, checked with the key that signed it, with another one, and after an edit."""

import dataclasses
import json
import shutil

import pytest

from refute.audit.examine import audit
from refute.audit.rule import Severity
from refute.cli import main
from refute.signing import keygen, load_signer, sign
from refute.verdict import Exit

pytest.importorskip("securesystemslib")


@pytest.fixture
def signed(audited, tmp_path):
    """A copy of the tree that one key signed, and that key."""
    shutil.copytree(audited.tree, tmp_path / "evidence")
    key = keygen(tmp_path / "key")
    for run in (tmp_path / "evidence" / "audited-v1").iterdir():
        sign(run, load_signer(tmp_path / "key"))
    return tmp_path / "evidence", key


def told(audited, tree, *keys):
    report = audit([tree], dataclasses.replace(audited.here, keys=keys))
    return {each.rule for each in report.objections if each.severity is Severity.ERROR}


def test_the_key_that_signed_is_trusted(audited, signed):
    tree, key = signed
    assert told(audited, tree, key) == set()


def test_without_a_key_nobody_checked_it(audited, signed):
    report = audit([signed[0]], audited.here)
    assert report.code is Exit.OK
    assert "signature-checked" in {each.rule for each in report.objections}


def test_another_key_is_not_trusted(audited, signed, tmp_path):
    assert told(audited, signed[0], keygen(tmp_path / "other")) == {"signature-trusted"}


def test_a_run_that_nobody_signed_is_not_trusted(audited, signed):
    tree, key = signed
    (max((tree / "audited-v1").iterdir()) / "findings.dsse.json").unlink()
    assert told(audited, tree, key) == {"signature-trusted"}


@pytest.mark.parametrize("what", [b'"implementation": "CPython"', b'"source": "uname"'])
def test_even_an_informative_field_cannot_be_changed_once_it_is_signed(audited, signed, what):
    tree, key = signed
    path = max((tree / "audited-v1").iterdir()) / "findings.json"
    assert what in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(what, what[:-1] + b'x"', 1))
    assert told(audited, tree, key) == {"signature-form", "signature-trusted"}


def test_a_key_that_is_none_is_a_usage_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key.pub").write_text("no key")
    assert main(["audit", "--keys", "key.pub"]) == Exit.USAGE
    assert "key.pub: not a public key" in capsys.readouterr().err


# --- the keys of a project's policy


@pytest.fixture
def project(audited, signed, tmp_path, monkeypatch, capsys):
    """A project with the signed tree and a key in its policy; what its audit finds, by rule and severity."""
    (tmp_path / "pyproject.toml").write_text('[tool.refute]\nkeys = {ana = "key.pub"}\n')
    monkeypatch.chdir(tmp_path)

    def found(*arguments):
        code = main(["audit", "--json", *arguments])
        objections = json.loads(capsys.readouterr().out)["objections"]
        return code, {each["rule"] for each in objections if each["rule"].startswith("signature-")}

    return found


def test_the_keys_of_the_policy_check_the_signatures_that_are_there(project, signed):
    assert project() == (Exit.OK, set())
    (max((signed[0] / "audited-v1").iterdir()) / "findings.dsse.json").unlink()
    assert project() == (Exit.OK, set())


def test_a_signature_by_no_key_of_the_policy_is_an_error(project, tmp_path):
    keygen(tmp_path / "other")
    (tmp_path / "pyproject.toml").write_text('[tool.refute]\nkeys = {ana = "other.pub"}\n')
    assert project() == (Exit.INVALID, {"signature-trusted"})
    assert project("--keys", "key.pub") == (Exit.OK, set())


def test_keys_that_are_given_must_have_signed_every_run(project, signed):
    (max((signed[0] / "audited-v1").iterdir()) / "findings.dsse.json").unlink()
    assert project("--keys", "key.pub") == (Exit.INVALID, {"signature-trusted"})


def test_whoever_names_trees_may_be_anywhere_and_reads_no_policy(project):
    assert project("evidence") == (Exit.OK, {"signature-checked"})
