"""Whether a finding counts: what was asked for was attacked, on a steady host."""

import dataclasses

import pytest
from records import changed, finding, kinds, opened, read, run_id

from refute.finding import Noise, Probe, Setting
from refute.rejudge import rejudge
from refute.validity import invalidity, probed
from refute.verdict import Verdict

QUIET = Probe((1000, 1010, 990, 1005) * 10, (990,) * 40, (80_000,) * 20, {"all": 200, "stolen": 0})
LOUD = dataclasses.replace(QUIET, kernel_ns=(5000,) * 40)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (("backend", "cpu", "array", "array"), ["backend cpu was asked for, the engine says array"]),
        (("device", "gpu", "gpu", "cpu"), ["device was gpu before the attack and cpu after it"]),
        (("seed", 3, 4, None), ["seed 3 was asked for, the engine says 4"]),
        (
            ("backend", "cpu", None, None),
            ["backend cpu was asked for, and the engine does not say what it ran with"],
        ),
        (("backend", "cpu", "cpu", "cpu"), []),
        (("device", None, "cpu", "cpu"), []),
        (("numerics", None, None, None), []),
        (("seed", 0, 0, None), []),
    ],
)
def test_what_was_not_attacked_as_asked_for_does_not_count(contract, setting, says):
    odd = changed(finding(contract, "exact", run_id(1)), settings=(Setting(*setting),))
    assert invalidity(odd, paired=False) == says


def test_an_honest_finding_counts(contract):
    assert invalidity(finding(contract, "exact", run_id(1)), paired=False) == []


def test_a_loud_host_makes_a_finding_invalid(contract):
    loud = changed(finding(contract, "exact", run_id(1)), noise=Noise(LOUD, QUIET))
    assert invalidity(loud, paired=False)
    assert invalidity(changed(loud, noise=Noise(QUIET, QUIET)), paired=False) == []


def test_noise_says_nothing_against_a_ratio_of_two_times_of_one_run(contract):
    loud = changed(finding(contract, "exact", run_id(1)), noise=Noise(LOUD, QUIET))
    assert invalidity(loud, paired=True) == []
    other = changed(loud, settings=(Setting("seed", 3, 4, None),))
    assert invalidity(other, paired=True) == ["seed 3 was asked for, the engine says 4"]


def test_only_claims_about_the_host_s_time_are_probed_for(contract):
    honest = finding(contract, "floor", run_id(1))
    assert probed(honest, timing=True)
    assert not probed(honest, timing=False)
    assert not probed(changed(honest, target={**honest.target, "simulated": True}), timing=True)


# --- and again, whenever a record is read


def differences(tree, contract, written):
    writer = opened(tree, contract, [written.falsifier])
    writer.write(changed(written, run=writer.run))
    writer.seal()
    (record,) = read(writer.path).records
    return [each.pointer for each in rejudge(record, "record", contract, kinds).discrepancies]


def test_a_verdict_on_another_backend_is_derived_to_be_invalid(tree, contract):
    odd = changed(finding(contract, "exact", ""), settings=(Setting("backend", "cpu", "array", "array"),))
    assert differences(tree, contract, odd) == ["/verdict", "/reason"]


def test_an_invalid_verdict_with_its_reason_stands(tree, contract):
    odd = changed(finding(contract, "exact", ""), settings=(Setting("backend", "cpu", "array", "array"),))
    reason = "backend cpu was asked for, the engine says array"
    told = changed(odd, verdict=Verdict.INVALID, reason=reason)
    assert differences(tree, contract, told) == []


def test_a_falsified_claim_on_a_loud_host_is_invalid(tree, contract):
    odd = changed(finding(contract, "exact", "", values={"exact": (1, 99)}), noise=Noise(LOUD, QUIET))
    assert "/verdict" in differences(tree, contract, odd)


def test_probes_where_none_belong_are_noticed(tree, contract):
    odd = changed(finding(contract, "exact", ""), noise=Noise(QUIET, QUIET))
    assert differences(tree, contract, odd) == ["/noise"]
