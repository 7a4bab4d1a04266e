"""Findings of one material are judged once, and what is left unread is never something else than was read."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import CONTRACT, PRESENT, RED, changed, contract_at, edit, finding, kinds, run_id, write_run

from refute.attempts import read_attempts
from refute.finding import Finding, without_samples
from refute.material import _SPANS, Materials, _glimpse
from refute.reader import schema_faults
from refute.status import overview
from refute.strict_json import dump_strict, load_strict
from refute.verdict import Status


def written(contract, **changes):
    honest = finding(contract, "exact", run_id(1))
    times = {"started": "2026-11-24T00:00:00.000Z", "ended": "2026-11-24T00:00:01.000Z"}
    return changed(honest, **{**times, **changes})


def known(*files):
    """Materials that were met in these files, each read whole."""
    materials = Materials()
    for data in files:
        learn(materials, data)
    return materials


def learn(materials, data):
    document = load_strict(data)
    return materials.learn(materials.look(data), document, Finding.from_json(document))


RUNS = st.integers(0, 86_399).map(run_id)
TIMES = st.integers(
    946_684_800_000, 4_102_444_799_999
).map(  # the years 2000 to 2099, in milliseconds
    lambda at: (
        datetime.fromtimestamp(at / 1000, UTC)
        .isoformat(timespec="milliseconds")[:23]
        .replace(
            "-02-29",
            "-02-28",  # a file of a leap day is read whole
        )
        + "Z"
    )
)
SECONDS = st.floats(0, 1e5).map(lambda value: round(value, 3)) | st.integers(0, 10**6)


@given(st.lists(st.tuples(RUNS, TIMES, TIMES, SECONDS), min_size=4, max_size=4))
def test_a_known_material_gives_the_document_without_its_samples(contract_of_module, many):
    files = []
    for run, started, ended, seconds in many:
        honest = written(contract_of_module, run=run, started=started, ended=ended, seconds=seconds)
        files.append((dump_strict(honest.to_json()), honest))
    recalled = known(*(data for data, _ in files[:3])).look(files[3][0]).known
    assert recalled.document == json.loads(json.dumps(without_samples(files[3][1]).to_json()))
    assert recalled.finding == without_samples(files[3][1])


@pytest.fixture(scope="module")
def contract_of_module(folder):
    return contract_at(folder)


def test_a_material_is_known_once_it_was_met_three_times(contract):
    data = dump_strict(written(contract).to_json())
    assert known().look(data).material is None
    assert known(data).look(data).known is None
    assert known(data, data).look(data).known is None
    assert known(data, data, data).look(data).known is not None


def test_files_that_a_glimpse_does_not_tell_apart_are_different_materials(contract):
    data = dump_strict(written(contract).to_json())
    other = data.replace(b'"seed": 0', b'"seed": 1')  # a byte that no glimpse shows
    assert _glimpse(data) == _glimpse(other)
    materials = known(data, data, data)
    assert materials.look(other).known is None
    assert materials.look(other).material not in (None, materials.look(data).material)


def test_other_samples_are_another_material(contract):
    data = dump_strict(written(contract).to_json())
    other = finding(contract, "exact", run_id(1), values=RED).observations
    red = dump_strict(written(contract, observations=other).to_json())
    materials = known(data, data, data, red)
    assert materials.look(red).known is None
    assert learn(materials, red) not in (None, learn(materials, data))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'\n"run": ', b'\n"x": {\n"run": "a"},\n"run": '),
        (b'\n"started": ', b'\n"counters2": {\n"started": "2026-11-24T00:00:00.000Z"},\n"started": '),
        (b'\n"seconds": 1.5,', b'\n"x": [\n{\n"seconds": 1.5, "y": 1}], "seconds": 1.5,'),
    ],
    ids=["run", "started", "seconds"],
)
def test_a_file_that_shows_another_value_in_the_place_of_a_key_is_never_trusted(contract, old, new):
    """What stands first in the file lies deeper in the document, and is not what may differ."""
    data = dump_strict(written(contract).to_json())
    assert old in data
    odd = data.replace(old, new, 1)
    materials = Materials()
    document = load_strict(odd)
    for _ in range(4):
        look = materials.look(odd)
        assert look.known is None
        materials.learn(look, document, written(contract))


@pytest.mark.parametrize("value", ['"a\\u0022b"', '""', "null", "1e3", "-1", "01"])
def test_values_of_another_shape_are_read_whole(contract, value):
    data = dump_strict(written(contract).to_json())
    for key in (b"run", b"seconds"):
        start = data.index(b'\n"' + key + b'": ') + len(key) + 5
        end = data.index(b",\n", start)
        assert known(data, data, data).look(data[:start] + value.encode() + data[end:]).known is None


@pytest.mark.parametrize("key", ["run", "started", "ended", "seconds"])
def test_the_schema_takes_every_value_that_is_not_shown_to_it(contract, key):
    shape = next(span[3] for span in _SPANS if span[0] == key)
    document = json.loads(dump_strict(written(contract).to_json()))

    @settings(max_examples=100)
    @given(st.from_regex(shape, fullmatch=True))
    def every(value):
        text = value.decode()
        told = json.loads(text) if key == "seconds" else text
        assert not list(schema_faults({**document, key: told}, "finding"))

    every()


@pytest.mark.parametrize("edited", [2, 6])
def test_what_is_left_unread_changes_no_status(contract, tree, edited):
    paths = [write_run(tree, contract, number=number) for number in range(8)]
    write_run(tree, contract, number=9, values=RED)
    edit(
        paths[edited] / "small.json", lambda d: d["observations"][1]["samples"].update(value=99), rehash=True
    )
    found = []
    for samples in (True, False):
        attempts = read_attempts([contract], [tree], present=PRESENT, kinds=kinds, samples=samples)
        assert any(each.finding.observations for each in attempts.of["demo-v1", "exact"]) is samples
        found.append(overview([contract], attempts))
    assert found[0] == found[1]
    assert found[0].claims[2].status is Status.TAMPERED
    assert len(found[0].claims[2].discrepancies) > 0


def test_the_same_samples_under_a_reworded_contract_are_judged_by_it_too(contract, tree):
    for number in range(3):
        write_run(tree, contract, number=number)
    reworded = contract_at(tree.parent / "reworded", CONTRACT.replace("Three claims.", "Three claims!"))
    assert reworded.semantic_sha256 == contract.semantic_sha256
    for number in range(3, 6):
        write_run(tree, reworded, number=number)
    attempts = read_attempts([reworded], [tree], present=PRESENT, kinds=kinds, samples=False)
    assert {each.stale for each in attempts.of["demo-v1", "small"]} == {""}
    assert not any(each.discrepancies for group in attempts.of.values() for each in group)
