"""Kinds of other distributions: found by their entry point, and every fault of theirs is a sentence."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_contract import REPEATS, contract

from refute.kinds import ANY, BUILT_IN, INSTALLED, UnknownKind, UnusableKind, kind_named, kind_origin
from refute.kinds.base import Kind, NoParameters, Searched
from refute.kinds.parameters import Lengths
from refute.kinds.plugins import registered
from refute.lint import lint

HONEST = """\
from refute.api import Lengths, Searched

class ForkedTwin(Searched[Lengths]):
    def cases(self, target): ...
    def observe(self, target, case): ...
    def refutes(self, observation): ...
"""
ENTRY = "forked-twin = acme_kinds:ForkedTwin"
WITHOUT_BOUND = """\
from refute.api import NoParameters, Planned

class ForkedTwin(Planned[NoParameters]):
    plan = observe = judge = caught = figure = None
"""
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a distribution of one module on the path, as pip would have left it there."""

    def put(
        source: str, entry: str = "forked-twin = acme_kinds:ForkedTwin", name: str = "acme-kinds"
    ) -> Path:
        folder = tmp_path / name
        info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / "acme_kinds.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[refute.kinds]\n{entry}\n")
        monkeypatch.syspath_prepend(folder)
        registered.cache_clear()
        return folder / "acme_kinds.py"

    yield put
    monkeypatch.undo()
    sys.modules.pop("acme_kinds", None)
    registered.cache_clear()


def linted(tmp_path: Path, kind: str) -> list[str]:
    path = tmp_path / "small-v1.yaml"
    path.write_text(contract(REPEATS.replace("kind: determinism", f"kind: {kind}")))
    return [f"{problem.line}: {problem.what}" for problem in lint([path])]


def test_a_registered_kind_is_one_of_the_kinds(install: Install) -> None:
    install(HONEST)
    assert "forked-twin" in INSTALLED
    assert {*BUILT_IN, "forked-twin"} == set(INSTALLED)
    kind = kind_named("forked-twin")
    assert (kind.name, kind.rule_version, kind.parameters_type) == ("forked-twin", "1", Lengths)
    assert kind is INSTALLED["forked-twin"]


def test_asking_whether_a_kind_is_there_imports_none(install: Install) -> None:
    install("raise SystemExit('imported')")
    assert "forked-twin" in INSTALLED
    assert len(list(INSTALLED)) == len(INSTALLED) == len(BUILT_IN) + 1
    assert "acme_kinds" not in sys.modules


def test_the_origin_is_the_distribution_and_its_code(install: Install) -> None:
    source = install(HONEST)
    origin = kind_origin("forked-twin")
    assert origin is not None
    assert (origin.distribution, origin.version) == ("acme-kinds", "1.0")
    (source.parent / "unrelated.py").write_text("pass")
    assert kind_origin("forked-twin") == origin
    source.write_text(HONEST + "# changed\n")
    changed = kind_origin("forked-twin")
    assert changed is not None
    assert changed.digest != origin.digest
    assert kind_origin("determinism") is None
    assert kind_origin("unheard-of") is None


@pytest.mark.parametrize(
    ("source", "entry", "sentence"),
    [
        ("import no_such_module", ENTRY, "cannot be imported (ModuleNotFoundError: "),
        ("1 / 0", ENTRY, "cannot be imported (ZeroDivisionError: "),
        ("raise SystemExit(3)", ENTRY, "cannot be imported (SystemExit: 3)"),
        ("", ENTRY, "cannot be imported (AttributeError: "),
        ("ForkedTwin = 3", ENTRY, "acme_kinds:ForkedTwin is no kind"),
        (HONEST.replace("cases", "case"), ENTRY, "lacks cases"),
        (HONEST, "forked = acme_kinds:ForkedTwin", "calls itself 'forked-twin'"),
        (HONEST.replace("[Lengths]", "[int]"), ENTRY, "has parameters of <class 'int'>"),
        (WITHOUT_BOUND, ENTRY, "lacks bound_fields"),
    ],
)
def test_a_kind_that_cannot_be_used_is_a_sentence_at_its_line(
    install: Install, tmp_path: Path, source: str, entry: str, sentence: str
) -> None:
    install(source, entry)
    name = entry.partition(" ")[0]
    (problem,) = linted(tmp_path, name)
    assert problem.startswith(f"15: kind '{name}' of acme-kinds 1.0 cannot be ")
    assert sentence in problem
    with pytest.raises(UnusableKind, match=r"acme-kinds 1\.0"):
        kind_named(name)


def test_a_built_in_kind_cannot_be_replaced(install: Install, tmp_path: Path) -> None:
    install(HONEST, "determinism = acme_kinds:ForkedTwin")
    assert kind_named("determinism").__module__ == "refute.kinds.determinism"
    (problem,) = linted(tmp_path, "determinism")
    assert problem == "15: acme-kinds 1.0 registers another kind 'determinism', but that one is built in"
    assert "acme_kinds" not in sys.modules


def test_a_name_that_two_distributions_register_is_nobodys(install: Install, tmp_path: Path) -> None:
    install(HONEST)
    install(HONEST, name="acme-fork")
    (problem,) = linted(tmp_path, "forked-twin")
    assert "is registered twice, by" in problem
    assert kind_origin("forked-twin") is None


def test_a_kind_that_is_not_here_is_a_sentence_and_a_record_may_have_it(install: Install) -> None:
    assert "forked-twin" not in INSTALLED
    assert "forked-twin" in ANY
    with pytest.raises(UnknownKind) as missing:
        kind_named("forked-twin")
    assert str(missing.value) == "kind 'forked-twin' is not installed here"
    install("1 / 0")
    with pytest.raises(UnknownKind) as broken:
        ANY["forked-twin"]
    assert not isinstance(broken.value, UnusableKind)


def test_what_the_class_says_need_not_be_said_again() -> None:
    class TokenExact(Searched[Lengths]):
        pass

    class Sibling(TokenExact):
        pass

    class Bare(Kind[Any]):
        pass

    assert (TokenExact.name, TokenExact.parameters_type) == ("token-exact", Lengths)
    assert (Sibling.name, Sibling.parameters_type) == ("sibling", Lengths)
    assert (Bare.name, Bare.parameters_type) == ("bare", NoParameters)


def test_built_in_kinds_are_called_as_their_classes() -> None:
    for name in BUILT_IN:
        kind = kind_named(name)
        plain = type(kind.__name__, (kind,), {"__module__": kind.__module__})
        assert plain.name == kind.name == name


def test_help_looks_at_no_entry_point() -> None:
    code = """
import sys, importlib.metadata, refute.cli, refute.plugin
importlib.metadata.entry_points = lambda **_: sys.exit("looked")
refute.cli.main(["--help"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
