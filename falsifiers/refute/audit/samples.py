"""Rules of samples: that an engine can have given them at all, whatever a kind makes of them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from refute.audit.rule import ERROR, WARNING, Remark, Rule, rule
from refute.audit.subject import Subject
from refute.audit.times import ended, moment
from refute.finding import Finding
from refute.kinds.base import Observation

# A layer is at least four products of which each needs the one before, out of a memory that answers after a
# quarter of a microsecond at best: no machine, however wide, computes one layer of one token faster.
_LAYER_NS = 1000
_FEW = 3  # prompts: with fewer, equal outputs say nothing
_LONG = 4  # tokens: shorter outputs may be equal by chance
_CLOCKS = timedelta(seconds=5)


@rule(
    ERROR,
    "Different prompts have different outputs.",
    "An engine that answers all alike, or samples that were copied, would pass for fast and steady.",
)
def outputs_vary(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        outputs: dict[str, list[int]] = {}
        for observation in finding.observations:
            prompt, tokens = observation.case.get("prompt"), _output(observation)
            if prompt is not None and tokens is not None and len(tokens) >= _LONG:
                outputs[json.dumps(prompt)] = tokens
        distinct = {tuple(tokens) for tokens in outputs.values()}
        if len(outputs) >= _FEW and len(distinct) == 1:
            found = f"{next(iter(distinct))} for each of {len(outputs)} prompts"
            yield Remark(filed.file, "/observations", found, "outputs that depend on the prompt")


def _output(observation: Observation) -> list[int] | None:
    """The tokens that an engine gave in one case."""
    for name in ("tokens", "cached", "greedy"):
        tokens = observation.samples.get(name)
        if isinstance(tokens, list) and tokens and all(isinstance(each, int) for each in tokens):
            return tokens
    return None


@rule(ERROR, "Tokens are of the model's vocabulary.", "No engine on that model gives them.")
def tokens_known(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        vocabulary = finding.target.get("vocabulary", 0)
        if not vocabulary:  # an endpoint does not say
            continue
        for index, observation in enumerate(finding.observations):
            prompt = observation.case.get("prompt")
            asked = prompt if isinstance(prompt, list) else []
            tokens = [each for each in (*asked, *(_output(observation) or ())) if isinstance(each, int)]
            odd = [each for each in tokens if not 0 <= each < vocabulary]
            if odd:
                pointer = f"/observations/{index}"
                yield Remark(filed.file, pointer, f"token {odd[0]}", f"ids below {vocabulary}")


@rule(
    ERROR,
    "Runs are numbered from 0 on, each once.",
    "A run was dropped, added or put elsewhere.",
)
def runs_numbered(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        for pointer, observations in _attacks(finding):
            numbers = [each.case["run"] for each in observations if "run" in each.case]
            if numbers and numbers != list(range(len(observations))):
                yield Remark(filed.file, f"{pointer}/observations", numbers, f"0 to {len(observations) - 1}")


def _attacks(finding: Finding) -> Iterator[tuple[str, Sequence[Observation]]]:
    """Every series of observations in a finding, with the pointer of what holds it."""
    yield "", finding.observations
    if finding.control is not None:
        yield "/control", finding.control.observations
    for index, trial in enumerate(finding.faults):
        yield f"/faults/{index}", trial.observations


@rule(
    ERROR,
    "A planted fault meets the runs that the engine met.",
    "They follow from one seed; one of them was changed.",
)
def fault_runs(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        planned = [each.case for each in finding.observations if "run" in each.case]
        for index, trial in enumerate(finding.faults if planned else ()):
            cases = [each.case for each in trial.observations]
            if trial.planted == "target" and cases != planned[: len(cases)]:
                yield Remark(filed.file, f"/faults/{index}/observations", "other runs", "those of the attack")


@rule(
    ERROR,
    "No more tokens came than were asked for.",
    "More tokens in the same time are a higher rate: they were added.",
)
def tokens_asked(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        for index, observation in enumerate(finding.observations):
            asked = observation.case.get("max_tokens")
            if not isinstance(asked, int):
                continue
            for pointer, times in _token_times(observation, f"/observations/{index}/samples"):
                if len(times) > asked:
                    yield Remark(filed.file, pointer, f"{len(times)} tokens", f"at most {asked}")


def _token_times(observation: Observation, pointer: str) -> Iterator[tuple[str, list[float]]]:
    """When tokens came, for every arm of a case that was timed token by token."""
    parts = {"": observation.samples, **{f"/{key}": each for key, each in observation.samples.items()}}
    for step, part in parts.items():
        times = part.get("token_ns") if isinstance(part, Mapping) else None
        if isinstance(times, list) and times and all(isinstance(each, int | float) for each in times):
            yield f"{pointer}{step}/token_ns", times


@rule(
    ERROR,
    "No token came faster than memory answers.",
    "No machine computes so fast: the times were changed, or the clock is wrong.",
)
def rate_possible(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        layers = finding.target.get("layers", 0)
        for index, observation in enumerate(finding.observations):
            for pointer, times in _token_times(observation, f"/observations/{index}/samples"):
                least = layers * _LAYER_NS * (len(times) - 1)
                if len(times) > 1 and times[-1] - times[0] < least:
                    found = f"{len(times) - 1} tokens in {times[-1] - times[0]} ns"
                    yield Remark(filed.file, pointer, found, f"at least {least} ns for {layers} layers")


@rule(ERROR, "No more memory was used than the host has.", "It was measured elsewhere, or changed.")
def memory_possible(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None:
        return
    memory = subject.summary["provenance"]["facts"]["memory_bytes"]["value"]
    for filed, finding in subject.findings:
        for index, observation in enumerate(finding.observations):
            sizes = observation.samples.get("bytes")
            if memory is None or finding.target.get("simulated", True) or not isinstance(sizes, Mapping):
                continue
            most = max((size for size in sizes.values() if isinstance(size, int | float)), default=0)
            if most > memory:
                pointer = f"/observations/{index}/samples/bytes"
                yield Remark(filed.file, pointer, f"{most} bytes", f"at most {memory}")


@rule(
    ERROR,
    "A server that refute started answered while the run went on.",
    "Its answers are from another time.",
)
def answers_dated(subject: Subject) -> Iterable[Remark]:
    for file, finding in _served(subject):
        assert subject.summary is not None
        start, end = moment(subject.summary["time"]["started"]), ended(subject)
        for index, observation in enumerate(finding.observations):
            for at in _created(observation.samples):
                if at < start - _CLOCKS or (end is not None and at > end + _CLOCKS):
                    expected = f"a time from {start.isoformat()} on, until the run was sealed"
                    yield Remark(file, f"/observations/{index}/samples", at.isoformat(), expected)
                    break


def _served(subject: Subject) -> Iterator[tuple[str, Finding]]:
    """Findings on engines whose clock is that of the host."""
    if subject.summary is not None:
        for filed, finding in subject.findings:
            if finding.target.get("name") == "bundled" and not filed.taken_over:
                yield filed.file, finding


def _created(value: Any) -> Iterator[datetime]:
    """Every `created` of an answer that is kept as its text."""
    if isinstance(value, str):
        _, found, rest = value.partition('"created":')
        digits = rest.lstrip()[:10]
        if found and digits.isdigit():
            yield datetime.fromtimestamp(int(digits), UTC)
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _created(member)
    elif isinstance(value, list):
        for member in value:
            yield from _created(member)


@rule(
    WARNING,
    "What was attacked gave other samples than the engine that is known to be good.",
    "The control's samples may have been copied.",
)
def samples_own(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        control = finding.control
        if control is None or finding.target.get("simulated", True) or len(finding.observations) < _FEW:
            continue
        if [each.samples for each in control.observations] == [each.samples for each in finding.observations]:
            yield Remark(filed.file, "/observations", "the samples of the control", "samples of its own")


RULES: tuple[Rule[Subject], ...] = (
    outputs_vary,
    tokens_known,
    runs_numbered,
    fault_runs,
    tokens_asked,
    rate_possible,
    memory_possible,
    answers_dated,
    samples_own,
)
