"""What changes the meaning of a contract, and what does not."""

import pytest
from contract_texts import change, contract_data, load, load_data, write_contract
from hypothesis import given
from hypothesis import strategies as st


def meaning(folder, data):
    return load_data(folder, data).semantic_sha256


def _shuffled(data, order):
    if isinstance(data, dict):
        keys = order.sample(sorted(data), len(data))
        return {key: _shuffled(data[key], order) for key in keys}
    return [_shuffled(item, order) for item in data] if isinstance(data, list) else data


_SETS = [
    ("model", "sha256"),
    ("falsifiers", 0, "requires"),
    ("falsifiers", 0, "must_catch"),
    ("falsifiers", 1, "bound", "testbeds"),
    ("falsifiers",),  # last: it moves the others
]


_PROSE = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)


@given(st.randoms(use_true_random=False), _PROSE)
def test_prose_and_order_do_not_change_the_meaning(folder, order, prose):
    data = contract_data()
    expected = meaning(folder, data)
    for place in _SETS:
        inside = data
        for key in place:
            inside = inside[key]
        order.shuffle(inside)
    data["title"] = data["description"] = prose
    data["references"] = [prose]
    data["scope"] = {"in": [], "out": [prose]}
    data["version"] = "9.9.9"
    data["history"].append({"version": "9.9.9", "date": "2027-01-01", "change": prose})
    for entry in data["falsifiers"]:
        entry["claim"] = prose
        entry["alias"] = f"A{order.randrange(99)}"
    assert meaning(folder, _shuffled(data, order)) == expected


def test_comments_and_spelling_do_not_change_the_meaning(folder):
    path = write_contract(folder, contract_data())
    before = load(path)
    path.write_text(
        "# a comment\n" + path.read_text().replace("above: 5 tok/s", "above: '5.0 tok/s' # floor")
    )
    after = load(path)
    assert after.semantic_sha256 == before.semantic_sha256
    assert after.bytes_sha256 != before.bytes_sha256


_MEANT = {
    "bound": change(0, "cases", 41, "bound"),
    "confidence": change(0, "confidence", 0.96, "bound"),
    "threshold": change(1, "above", "6 tok/s", "bound"),
    "direction": change(1, "bound", {**contract_data()["falsifiers"][1]["bound"], "above": "5 s"}),
    "statistic": change(1, "statistic", "p10", "bound"),
    "testbeds": change(1, "testbeds", ["any"], "bound"),
    "parameters": change(0, "max_tokens", 33, "with"),
    "kind": change(0, "kind", "measured"),
    "requires": change(0, "requires", ["token_ids"]),
    "must_catch": change(0, "must_catch", ["stale-row"]),
    "dose": change(0, "must_catch", ["stale-row", "temperature-scaled=1.2"]),
    "needs": change(1, "needs", []),
    "discharge": change(0, "discharge", "embedded"),
    "id": change(0, "id", "exactly"),
    "model files": {**contract_data(), "model": {**contract_data()["model"], "sha256": ["a" * 64]}},
    "fewer falsifiers": {**contract_data(), "falsifiers": contract_data()["falsifiers"][:1]},
}


@pytest.mark.parametrize("what", _MEANT)
def test_what_can_flip_a_verdict_changes_the_meaning(folder, what):
    assert meaning(folder, _MEANT[what]) != meaning(folder, contract_data())


def test_no_two_of_these_changes_mean_the_same(folder):
    assert len({meaning(folder, data) for data in _MEANT.values()}) == len(_MEANT)
