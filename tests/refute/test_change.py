"""Random edits of a contract are classified consistently, and call for a version that never gets smaller."""

import copy
import json

import pytest
from contract_texts import FAULTS, KINDS, contract_data, write_contract
from hypothesis import given, settings
from hypothesis import strategies as st

from refute.change import REQUIRED, Bump, Effect, bump, changes, effect_of, next_version
from refute.contract import load_contract
from refute.lint import lint


def _set(*place, value):
    def edit(data):
        inside = data
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] = value

    return edit


def _without(index):
    return lambda data: data["falsifiers"].pop(index)


def _another(data):
    entry = copy.deepcopy(data["falsifiers"][0])
    data["falsifiers"].append({**entry, "id": "another", "alias": "ANOTHER", "claim": "It is another."})


EXACT, FAST = ("falsifiers", 0), ("falsifiers", 1)
T, L, B, E, A = Effect.TIGHTENING, Effect.LOOSENING, Effect.BREAKING, Effect.EDITORIAL, Effect.ADDITION
# One edit of each place: what it does, and what it does backwards; places are disjoint.
EDITS = {
    "cases 40 -> 60": (_set(*EXACT, "bound", "cases", value=60), T, L),
    "confidence 0.95 -> 0.9": (_set(*EXACT, "bound", "confidence", value=0.9), L, T),
    "margin 0.01 logit -> 0.001 logit": (_set(*EXACT, "with", "margin", value="0.001 logit"), T, L),
    "max_tokens 32 -> 64": (_set(*EXACT, "with", "max_tokens", value=64), B, B),
    "requires chunks removed": (_set(*EXACT, "requires", value=["token_ids"]), T, L),
    "must_catch stale-row=8 -> stale-row=2": (
        _set(*EXACT, "must_catch", value=["stale-row=2", "temperature-scaled=1.25"]),
        T,
        L,
    ),
    "exact: discharge": (_set(*EXACT, "discharge", value="embedded"), L, T),
    "exact: claim": (_set(*EXACT, "claim", value="It is still exact."), E, E),
    "above 5 tok/s -> 6 tok/s": (_set(*FAST, "bound", "above", value="6 tok/s"), T, L),
    "runs 15 -> 9": (_set(*FAST, "bound", "runs", value=9), L, T),
    "statistic": (_set(*FAST, "bound", "statistic", value="p40"), B, B),
    "testbeds host-2 removed": (_set(*FAST, "bound", "testbeds", value=["host-1"]), L, T),
    "must_catch temperature-scaled added": (
        _set(*FAST, "must_catch", value=["slow-clock", "temperature-scaled"]),
        T,
        L,
    ),
    "title": (_set("title", value="Another title"), E, E),
    "model files": (_set("model", "sha256", value=["a" * 64]), B, B),
    "another falsifier": (_another, A, B),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("contracts")


def edited(*names):
    data = contract_data()
    for name in names:
        EDITS[name][0](data)
    return data


def load(folder, data):
    path = folder / "example-v1.yaml"
    path.write_text(json.dumps(data))  # JSON is YAML, and quicker written
    return load_contract(path, kinds=KINDS, faults=FAULTS)


def between(folder, old, new):
    found = changes(load(folder, old), load(folder, new), KINDS, FAULTS)
    return effect_of(found), found


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_and_its_inverse(folder, name):
    _, there, back = EDITS[name]
    assert lint([write_contract(folder, edited(name))], kinds=KINDS, faults=FAULTS) == []
    assert between(folder, contract_data(), edited(name))[0] is there
    assert between(folder, edited(name), contract_data())[0] is back


_NAMES = st.lists(st.sampled_from(sorted(EDITS)), unique=True)


def _undo(data, name):
    """Put back what one edit changed: whatever else it touched would show."""
    if name == "another falsifier":
        data["falsifiers"].pop()
        return
    before, after = contract_data(), edited(name)
    for place in _places(before):
        if _at(before, place) != _at(after, place):
            _set(*place, value=_at(before, place))(data)


def _places(data, at=()):
    if isinstance(data, dict):
        return [place for key in data for place in _places(data[key], (*at, key))]
    if isinstance(data, list) and data and isinstance(data[0], dict):
        return [place for key in range(len(data)) for place in _places(data[key], (*at, key))]
    return [at]


def _at(data, place):
    for key in place:
        data = data[key]
    return data


@settings(max_examples=25)
@given(_NAMES)
def test_there_and_back_is_unchanged(folder, names):
    data = edited(*names)
    for name in names:
        _undo(data, name)
    assert between(folder, contract_data(), data) == (Effect.UNCHANGED, ())


@settings(max_examples=25)
@given(_NAMES)
def test_edits_together_are_weighed_by_what_each_does(folder, names):
    effects = {EDITS[name][1] for name in names}
    found, _ = between(folder, contract_data(), edited(*names))
    if B in effects or (L in effects and effects & {T, A}):
        assert found is B
    else:
        assert found is next((each for each in (L, T, A, E) if each in effects), Effect.UNCHANGED)


@settings(max_examples=25)
@given(_NAMES)
def test_tightening_and_loosening_swap_backwards(folder, names):
    swapped = {T: L, L: T, B: B, E: E, Effect.UNCHANGED: Effect.UNCHANGED, A: B}
    names = [name for name in names if name != "another falsifier"]
    there, _ = between(folder, contract_data(), edited(*names))
    back, _ = between(folder, edited(*names), contract_data())
    assert back is swapped[there]


@settings(max_examples=25)
@given(_NAMES, st.sampled_from(sorted(EDITS)))
def test_another_edit_never_calls_for_less(folder, names, more):
    fewer, _ = between(folder, contract_data(), edited(*(name for name in names if name != more)))
    with_more, _ = between(folder, contract_data(), edited(*dict.fromkeys([*names, more])))
    assert REQUIRED[with_more] >= REQUIRED[fewer]


@settings(max_examples=25)
@given(_NAMES)
def test_editorial_is_where_the_meaning_stays(folder, names):
    old, new = load(folder, contract_data()), load(folder, edited(*names))
    same = old.semantic_sha256 == new.semantic_sha256
    assert same == (effect_of(changes(old, new, KINDS, FAULTS)) in (Effect.UNCHANGED, Effect.EDITORIAL))


def test_a_sentence_names_old_and_new(folder):
    _, found = between(folder, contract_data(), edited("above 5 tok/s -> 6 tok/s", "runs 15 -> 9"))
    assert [(change.effect, change.sentence) for change in found] == [
        (T, "fast: above: 5 tok/s -> 6 tok/s"),
        (L, "fast: runs: 15 -> 9"),
    ]


@pytest.mark.parametrize(
    ("edit", "effect", "sentence"),
    [
        (_set(*EXACT, "kind", value="measured"), B, "exact: kind: searched -> measured"),
        (_without(1), B, "fast: removed"),
        (_set(*EXACT, "id", value="exactly"), B, "exact: renamed to exactly"),
        (_set(*FAST, "needs", value=[]), L, "fast: needs: example-v1/exact removed"),
        (_set(*FAST, "bound", "testbeds", value=["any"]), B, "fast: testbeds: host-1, host-2 -> any"),
        (_set(*EXACT, "with", "margin", value="0.010 logit"), E, "exact: margin: 0.01 logit -> 0.010 logit"),
        (_set(*EXACT, "with", "margin", value="0.01 s"), B, "exact: margin: 0.01 logit -> 0.01 s"),
        (_set(*EXACT, "with", value={"max_tokens": 32}), B, "exact: margin: 0.01 logit -> nothing"),
        (_set("model", "architecture", value="qwen3"), B, "model.architecture: qwen3moe -> qwen3"),
        (lambda data: data["falsifiers"].reverse(), E, "falsifiers in another order"),
    ],
)
def test_other_changes(folder, edit, effect, sentence):
    data = contract_data()
    edit(data)
    assert between(folder, contract_data(), data)[0] is effect
    assert sentence in [change.sentence for change in between(folder, contract_data(), data)[1]]


def test_a_capability_that_the_kind_requires_anyway_decides_nothing(folder):
    without = edited()
    without["falsifiers"][0]["requires"] = ["chunks"]
    assert between(folder, without, contract_data())[0] is Effect.EDITORIAL


_VERSIONS = st.tuples(*[st.integers(0, 20)] * 3)


@given(_VERSIONS, st.sampled_from(Bump))
def test_the_next_version_takes_just_that_step(version, step):
    old = ".".join(map(str, version))
    assert bump(old, next_version(old, step)) is step


@given(_VERSIONS, _VERSIONS)
def test_a_version_that_is_lower_is_no_step(old, new):
    moved = bump(*(".".join(map(str, each)) for each in (old, new)))
    assert (moved is None) == (new < old)
    assert (moved is Bump.NONE) == (new == old)
