"""Every rule of the lint: the smallest contract that breaks it, and all that is said of it."""

import ast
import hashlib
from pathlib import Path

import pytest
import yaml
from contract_texts import FAULTS, KINDS

import refute
from refute.faults import FAULTS as CATALOGUE
from refute.faults.base import FaultSpec
from refute.lint import lint
from refute.marked_yaml import DEPTH_LIMIT, SIZE_LIMIT
from refute.select import embedded_model
from refute.units import UNITS

GOOD = """\
id: good-v1
version: 1.1.0
title: An example
description: What the tests read.
model: {name: A model, architecture: qwen3moe, sha256: [DIGEST]}
references: []
scope: {in: [one sequence], out: [batches]}
falsifiers:
  - id: exact
    alias: EXACT_1
    claim: It is exact.
    kind: searched
    requires: [token_ids]
    with: {max_tokens: 32}
    bound: {cases: 40, confidence: 0.95}
    must_catch: [stale-row]
    discharge: full-model
  - id: fast
    alias: FAST_1
    claim: It is fast.
    kind: measured
    requires: [timing]
    with: {max_tokens: 32}
    bound: {of: decode-rate, statistic: median, above: 5 tok/s, confidence: 0.99, runs: 15, testbeds: [any]}
    must_catch: [slow-clock]
    needs: [good-v1/exact]
    discharge: embedded
history:
  - {version: 1.0.0, date: 2026-11-23, change: Registered.}
  - {version: 1.1.0, date: 2026-11-24, change: More.}
""".replace("DIGEST", "a" * 64)
RULES = yaml.safe_load((Path(__file__).parent / "rules.yaml").read_text())

# Rules of whole files: the bytes of good-v1.yaml, and all that is said of it.
FILES = {
    "file-encoding": (
        b"id: x\nname: \xe9\n",
        "2:7: not UTF-8; expected a text file in UTF-8; save it as UTF-8",
    ),
    "file-empty": (
        b"# nothing\n",
        "1:1: the file is empty; expected a contract; refute init writes one to begin with",
    ),
    "file-size": (
        b"#" * (SIZE_LIMIT + 1),
        f"1:1: too large for a contract; expected at most {SIZE_LIMIT} bytes; split it",
    ),
    "yaml-depth": (
        b"[" * 50,
        (
            f"1:{DEPTH_LIMIT + 2}: nested too deeply; expected at most {DEPTH_LIMIT} levels; "
            "a contract needs 6: close a bracket before this one"
        ),
    ),
}
# Rules that need more than a text; each has its own test below.
OTHERS = {
    "yaml-surrogate",
    "file-unreadable",
    "folder-empty",
    "path-missing",
    "file-suffix",
    "contract-id-twice",
    "model-embedded",
}
# Rules of a comparison with a base: see test_lint_base.py.
# Rules of kinds of other distributions: see kinds/test_third_party.py.
THIRD_PARTY = {"kind-unusable", "kind-shadowed"}
BASE = {"base-version", "base-version-back", "base-history"}


def said(folder, text, name="good-v1.yaml"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return told([path], folder)


def told(paths, folder):
    """Rule and sentence of each problem, without the folder."""
    problems = lint(paths, kinds=KINDS, faults=FAULTS)
    return [(problem.rule, str(problem).replace(f"{folder}/", "")) for problem in problems]


def test_the_contract_without_a_fault_has_none(tmp_path):
    assert said(tmp_path, GOOD) == []


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_says_where_and_what_and_what_to_do(tmp_path, rule):
    old, new, sentence = (RULES[rule][key] for key in ("replace", "by", "says"))
    sentence = sentence.replace("{units}", ", ".join(UNITS))
    assert GOOD.count(old) == 1
    found = said(tmp_path, GOOD.replace(old, new))
    assert [text for name, text in found if name == rule] == [f"good-v1.yaml:{sentence}"]


@pytest.mark.parametrize("rule", FILES)
def test_a_rule_of_the_file(tmp_path, rule):
    text, sentence = FILES[rule]
    assert said(tmp_path, text) == [(rule, f"good-v1.yaml:{sentence}")]


def test_half_a_surrogate_pair_passes_the_slow_parser_only(tmp_path, monkeypatch):
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    found = said(tmp_path, GOOD.replace("An example", '"\\ud800"'))
    assert (
        "yaml-surrogate",
        "good-v1.yaml:3:8: half a surrogate pair; expected whole characters; remove it",
    ) in found


def test_paths_that_hold_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd.yaml").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/odd.yaml").mkdir()
    found = told([tmp_path / "empty", tmp_path / "none.yaml", tmp_path / "folder"], tmp_path)
    assert found == [
        (
            "folder-empty",
            (
                "empty:1:1: no contract in this folder; expected *.yaml files; "
                "refute init writes one to begin with"
            ),
        ),
        (
            "file-unreadable",
            (
                "folder/odd.yaml:1:1: cannot be read: not a file; expected a readable YAML file; "
                "check the path and its permissions"
            ),
        ),
        (
            "path-missing",
            "none.yaml:1:1: no such file or folder; expected a contract or a folder of them; check the path",
        ),
    ]


def test_a_contract_ends_in_yaml(tmp_path):
    assert said(tmp_path, GOOD, "good-v1.yml") == [
        ("file-suffix", "good-v1.yml:1:1: the file's name ends in '.yml'; expected .yaml; rename it")
    ]


def test_two_contracts_with_one_id(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        said(tmp_path / folder, GOOD)
    found = told([tmp_path / "a", tmp_path / "b"], tmp_path)
    assert (
        "contract-id-twice",
        (
            "b/good-v1.yaml:1:5: contract id 'good-v1' is taken by a/good-v1.yaml; "
            "expected an id of its own; rename one, file and id"
        ),
    ) in found


def test_the_embedded_model_is_no_full_model(tmp_path):
    digest = hashlib.sha256(embedded_model().read_bytes()).hexdigest()
    assert said(tmp_path, GOOD.replace("a" * 64, digest)) == [
        (
            "model-embedded",
            (
                "good-v1.yaml:5:57: this is the embedded model, whose evidence would then count as that of "
                "the full one; remove it, and write discharge: embedded where the embedded model is enough"
            ),
        )
    ]


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_dose_of_the_catalogue_may_be_asked_for(tmp_path, name):
    spec = CATALOGUE[name]
    kind = "measured" if spec.seam == "clock" else "searched"
    for dose in (spec.default, *spec.doses):
        entry = GOOD.replace("[slow-clock]" if kind == "measured" else "[stale-row]", f"[{name}={dose!r}]")
        path = tmp_path / "good-v1.yaml"
        path.write_text(entry)
        assert lint([path], kinds=KINDS, faults={**CATALOGUE, **FAULTS, name: spec}) == []


def test_a_dose_in_the_unit_of_the_bound_is_held_against_the_bound_alone(tmp_path):
    spec = FaultSpec("slow", "clock", "It is slow.", 1.0, (0.5,), "tok/s")
    path = tmp_path / "good-v1.yaml"
    path.write_text(GOOD.replace("[slow-clock]", "[slow=4]"))
    assert lint([path], kinds=KINDS, faults={**FAULTS, "slow": spec}) == []


def test_parts_of_what_is_counted_may_be_asked_for_where_the_catalogue_has_them(tmp_path):
    spec = FaultSpec("off", "cache", "It is off.", 1.0, (0.25,), "positions")
    path = tmp_path / "good-v1.yaml"
    path.write_text(GOOD.replace("[stale-row]", "[off=0.1]"))
    assert lint([path], kinds=KINDS, faults={**FAULTS, "off": spec}) == []


def test_every_place_that_makes_a_problem_has_a_rule_of_its_own_and_a_test():
    named = [rule for module in MODULES for rule in _rules(ast.parse(module.read_text()))]
    assert sorted(named) == sorted({*RULES, *FILES, *OTHERS, *THIRD_PARTY, *BASE})


MODULES = [
    Path(refute.__file__).parent / name
    for name in (
        "marked_yaml.py",
        "schemas/__init__.py",
        "contract.py",
        "contract_files.py",
        "lint.py",
        "lint_falsifier.py",
        "lint_base.py",
    )
]
_PLACES = {"problem": 0, "key_problem": 0, "add": 1, "Problem": 3}


def test_no_other_module_makes_problems():
    toml = Path(refute.__file__).with_name("marked_toml.py")  # not of contracts; its own tests name the rules
    others = set(Path(refute.__file__).parent.rglob("*.py")) - {*MODULES, toml}
    assert not [
        path for path in others if "Problem(" in path.read_text() and "marked_yaml" in path.read_text()
    ]


def _rules(tree):
    """Rules by their literal, at each call that makes a problem; those that pass one on have a name there."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "attr", getattr(node.func, "id", None))
        if called not in _PLACES or (called == "add" and len(node.args) < 4):
            continue
        starred = any(isinstance(argument, ast.Starred) for argument in node.args)
        rule = node.args[2 if starred else _PLACES[called]]
        assert isinstance(rule, ast.Constant) or getattr(rule, "id", None) == "rule", ast.unparse(node)
        if isinstance(rule, ast.Constant):
            yield rule.value
