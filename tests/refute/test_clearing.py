"""Commands that clear what blocks: models where they are, one command for several claims."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import RED, claims, write_run

from refute.clearing import attacking, place_of, together
from refute.select import MODEL_VARIABLE

NAMES = st.from_regex(r"[a-z0-9]{1,4}(-[a-z0-9]{1,4})?", fullmatch=True)


def test_a_model_is_named_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    assert place_of("m.gguf") == "/path/to/m.gguf"
    (tmp_path / "far").mkdir()
    (tmp_path / "far/m.gguf").touch()
    monkeypatch.setenv(MODEL_VARIABLE, "far/m.gguf")
    assert place_of("m.gguf") == "far/m.gguf"
    assert place_of("n.gguf") == "/path/to/n.gguf"
    (tmp_path / "m.gguf").touch()
    assert place_of("m.gguf") == "m.gguf"


@pytest.mark.parametrize(
    ("commands", "whole"),
    [
        (["git log -- a", "git log -- a"], "git log -- a"),
        (["git log -- a", "git log -- b"], ""),
        (["refute run a.yaml -k x", "git log -- b"], ""),
        (["refute run a.yaml -k x", "refute run a.yaml -k y"], "refute run a.yaml -k 'x or y'"),
        (["refute run a.yaml -k x", "refute run b.yaml -k y"], "refute run a.yaml b.yaml -k 'x or y'"),
        (["refute run a.yaml -k x", "refute run -k y"], "refute run -k 'x or y'"),
        (["refute run a.yaml -k x --model m", "refute run a.yaml -k y"], ""),
        ([f"refute run a.yaml -k x{n} --model m" for n in range(9)], "refute run a.yaml --model m"),
    ],
)
def test_one_command_does_what_several_do_or_there_is_none(commands, whole):
    assert together(commands) == whole


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=20))
def test_every_falsifier_of_a_group_is_attacked(keys):
    whole = shlex.split(together([attacking([f"{path} v1.yaml"], [name]) for path, name in keys]))
    assert {f"{path} v1.yaml" for path, _ in keys} <= set(whole)
    if "-k" in whole:
        assert {name for _, name in keys} == set(whole[whole.index("-k") + 1].split(" or "))


def test_another_backend_or_engine_is_named_again(contract, tree):
    def on_llama(*arguments, **how):
        from records import changed, finding  # noqa: PLC0415

        honest = finding(*arguments, **how)
        return changed(honest, target={**honest.target, "name": "llama-cpp"})

    write_run(tree, contract, ["exact"], values=RED, make=on_llama)
    assert "-k exact --target llama-cpp" in claims(contract, tree)["exact"].command
