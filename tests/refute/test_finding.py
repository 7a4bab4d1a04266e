"""A finding is the same after it was written and read, whatever it holds."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import changed, finding, run_id

from refute.finding import Finding, Noise, Probe, Setting, without_samples
from refute.reader import schema_faults
from refute.strict_json import dump_strict, load_strict

times = st.lists(st.integers(0, 2**53), max_size=4).map(tuple)
ticks = st.none() | st.fixed_dictionaries({"all": st.integers(0, 2**53), "stolen": st.integers(0, 2**53)})
probes = st.builds(Probe, times, times, st.lists(st.integers(-(2**53), 2**53), max_size=4).map(tuple), ticks)
values = st.none() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"]))
names = st.sampled_from(["backend", "device", "numerics", "threads", "seed", "model_name", "model_sha256"])
told = st.lists(st.builds(Setting, names, values, values, values), max_size=4).map(tuple)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.none() | st.builds(Noise, probes, probes), told)
def test_a_finding_is_the_same_after_it_was_written_and_read(contract, noise, lines):
    written = changed(finding(contract, "exact", run_id(1)), noise=noise, settings=lines)
    document = load_strict(dump_strict(written.to_json()))
    assert list(schema_faults(document, "finding")) == []
    assert Finding.from_json(document) == written


def test_another_version_is_refused(contract):
    document = finding(contract, "exact", run_id(1)).to_json()
    with pytest.raises(ValueError, match="urn:refute:schema:finding:2"):
        Finding.from_json({**document, "schema": "urn:refute:schema:finding:2"})


@pytest.mark.parametrize("key", ["settings", "noise", "ended"])
def test_a_key_that_is_missing_or_unknown_is_an_error(contract, key):
    document = load_strict(dump_strict(finding(contract, "exact", run_id(1)).to_json()))
    with pytest.raises(TypeError, match="news: unknown, or missing"):
        Finding.from_json({**document, "news": 1})
    del document[key]
    with pytest.raises(TypeError, match=f"{key}: unknown, or missing"):
        Finding.from_json(document)


def test_what_is_left_of_a_finding_shares_what_is_equal(contract):
    probe = Probe((1,), (1,), (1,), None)
    first, second = (
        changed(finding(contract, "exact", run_id(number)), noise=Noise(probe, probe)) for number in (1, 2)
    )
    elsewhere = changed(second, target={**second.target, "model_name": "another"})
    kept = without_samples(first)
    small, other = without_samples(second, kept), without_samples(elsewhere, kept)
    assert small == without_samples(second)
    assert small.target is kept.target
    assert other.target["model_name"] == "another"
    assert (small.observations, small.control.observations, small.noise) == ((), (), None)
    assert not any(trial.observations for trial in small.faults)
