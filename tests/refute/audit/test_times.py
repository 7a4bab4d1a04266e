"""Clocks at the scale of a large model: there an edit of times does not hide in what clocks may differ by."""

import pytest
from mutations import only
from tampers import append

from refute.audit.times import log_agrees, time_events, time_explained, time_samples


def floor(audited, factor):
    """The floor as a slow engine gives it, 8 runs of 10 s, and then with `factor` times the rate."""
    bundle = audited.again.copy()

    def slow(document):
        for each in document["observations"]:
            each["samples"].update(
                token_ns=[round(n * 10**9 * 2 / factor) for n in range(1, 6)], prefilled_ns=1
            )
        document["faults"] = document["faults"][:1]
        document["seconds"] = 85 + 10 * len(document["faults"][0]["observations"])

    bundle.edit("floor.json", slow)
    return bundle.subject(audited.here, audited.library)


def test_honest_times_explain_the_attack(audited):
    subject = floor(audited, 1)
    assert [*time_explained.check(subject), *time_samples.check(subject)] == []


@pytest.mark.parametrize("factor", [10, 100])
def test_a_rate_that_is_many_times_as_high_leaves_the_attack_unexplained(audited, factor):
    assert [each.pointer for each in time_explained.check(floor(audited, factor))] == ["/seconds"]


def test_a_rate_that_is_lower_does_not_fit_into_the_attack(audited):
    assert [each.pointer for each in time_samples.check(floor(audited, 0.5))] == ["/observations"]


@pytest.mark.parametrize("field", ["prefilled_ns", "token_ns"])
def test_no_time_is_before_the_start(audited, field):
    bundle = audited.again.copy()

    def early(document):
        samples = document["observations"][0]["samples"]
        samples[field] = -1 if field == "prefilled_ns" else [-1, *samples[field][1:]]

    bundle.edit("floor.json", early)
    (remark,) = time_events.check(bundle.subject(audited.here, audited.library))
    assert (remark.pointer, remark.found) == ("/observations/0/samples", "-1 ns")


def test_a_log_that_tells_of_a_finding_that_is_not_there_shows_it(audited):
    bundle = audited.again.copy()
    assert list(log_agrees.check(bundle.subject(audited.here, audited.library))) == []
    append("run.log", b"2099-01-01T00:00:00.000Z bits falsified: 2 of 2 cases contradict the claim\n")(bundle)
    found = [each.found for each in log_agrees.check(bundle.subject(audited.here, audited.library))]
    assert "a line of bits" in found


def killed_after(audited, *, torn=b""):
    """The run as it is where it was killed before it came to the log of its last finding, then sealed."""
    bundle = only(audited.whole, "floor", "bits")
    bundle.edit(
        "findings.json", lambda d: (d.update(state="interrupted"), d["time"].update(monotonic_ns=None))
    )
    lines = bundle.files["run.log"].splitlines(keepends=True)
    bundle.files["run.log"] = b"".join(lines[:-1]) + torn
    del bundle.files["bits.counterexample.json"]
    bundle.rehash()
    return bundle


@pytest.mark.parametrize("torn", [b"", b"2026-11-30T23:05:20.3"])
def test_a_run_that_was_killed_before_it_came_to_its_log_is_honest(audited, torn):
    told = {each.rule for each in audited.objections(killed_after(audited, torn=torn))}
    assert told == {"run-whole"}


def test_only_the_last_finding_of_a_killed_run_may_lack_its_line(audited):
    bundle = killed_after(audited)
    bundle.files["run.log"] = b""
    bundle.rehash()
    assert "log-agrees" in {each.rule for each in audited.objections(bundle)}
