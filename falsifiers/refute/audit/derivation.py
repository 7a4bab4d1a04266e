"""Rules of what follows: verdict, figure and all else that a finding says is derived again from its samples.

`rejudge` does it once per finding; each rule here answers for one part of what came out otherwise. Some hold
even where the rule that judged is not here any more.
"""

from collections.abc import Iterable, Iterator

from refute.audit.rule import ERROR, WARNING, Remark, Rule, rule
from refute.audit.subject import Subject
from refute.faults import FAULTS
from refute.faults.base import milder
from refute.finding import FaultTrial, missed
from refute.verdict import Outcome, conclude

_COPIED = ("alias", "claim", "kind", "bound", "parameters", "falsifier")
# First step of a pointer -> the rule that answers for it; `derived-verdict` answers for all others.
_PARTS = {
    **dict.fromkeys(_COPIED, "contract-copy"),
    "observations": "samples-readable",
    "control": "derived-control",
    "faults": "derived-faults",
    "sensitivity": "derived-sensitivity",
    "judgement": "derived-judgement",
    "figure": "derived-figure",
    "reason": "derived-reason",
    "counters": "derived-counters",
    "counterexample": "derived-counterexample",
    "replays": "derived-counterexample",
}


def _differences(subject: Subject, part: str) -> Iterator[Remark]:
    for filed in subject.filed:
        for each in () if filed.rejudged is None else filed.rejudged.discrepancies:
            if _PARTS.get(each.pointer.split("/")[1], "derived-verdict") == part:
                yield Remark(filed.file, each.pointer, each.found, each.expected)


@rule(
    ERROR, "A finding repeats its contract as it is.", "The claim, or the bar, was changed after the attack."
)
def contract_copy(subject: Subject) -> Iterable[Remark]:
    return _differences(subject, "contract-copy")


@rule(ERROR, "Samples are what their kind stores.", "No run of that kind gives such samples.")
def samples_readable(subject: Subject) -> Iterable[Remark]:
    return _differences(subject, "samples-readable")


@rule(ERROR, "The control's colour follows from its samples.", "It was painted green.")
def derived_control(subject: Subject) -> Iterable[Remark]:
    return _differences(subject, "derived-control")


@rule(
    ERROR,
    "Every fault of the contract was tried at its dose, and was caught where its samples show it.",
    "A check that cannot fail would pass for one that can.",
)
def derived_faults(subject: Subject) -> Iterable[Remark]:
    return _differences(subject, "derived-faults")


@rule(
    ERROR, "The smallest dose that was caught follows from the trials.", "It would seem sharper than it is."
)
def derived_sensitivity(subject: Subject) -> Iterable[Remark]:
    return _differences(subject, "derived-sensitivity")


@rule(ERROR, "The judgement follows from the samples.", "Samples, or what was made of them, were changed.")
def derived_judgement(subject: Subject) -> Iterable[Remark]:
    return _differences(subject, "derived-judgement")


@rule(ERROR, "The figure follows from the judgement.", "What people read is not what was measured.")
def derived_figure(subject: Subject) -> Iterable[Remark]:
    return _differences(subject, "derived-figure")


@rule(ERROR, "The reason follows from the judgement.", "What people read is not what was found.")
def derived_reason(subject: Subject) -> Iterable[Remark]:
    return _differences(subject, "derived-reason")


@rule(ERROR, "Counters are the sums of those in the samples.", "The engine did not do what they say.")
def derived_counters(subject: Subject) -> Iterable[Remark]:
    return _differences(subject, "derived-counters")


@rule(
    ERROR,
    "There is a counterexample where there has to be one, and it refutes.",
    "It was taken away, or is none.",
)
def derived_counterexample(subject: Subject) -> Iterable[Remark]:
    return _differences(subject, "derived-counterexample")


@rule(ERROR, "The verdict follows from samples, faults and control.", "It was typed.")
def derived_verdict(subject: Subject) -> Iterable[Remark]:
    return _differences(subject, "derived-verdict")


@rule(
    WARNING,
    "The rule that judged is here, so that it can judge again.",
    "Nothing shows that the verdict follows; the claim is stale.",
)
def rejudged(subject: Subject) -> Iterable[Remark]:
    for filed in subject.filed:
        if filed.rejudged is not None and filed.rejudged.unjudged:
            yield Remark(filed.file, "/rule_version", filed.rejudged.unjudged, "a rule that is here")


@rule(
    ERROR,
    "The verdict agrees with the judgement, the trials and the control that lie beside it.",
    "It was typed; this needs no rule of the kind, and so holds for old records too.",
)
def verdict_agrees(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        if finding.judgement is None or finding.control is None:
            continue
        control = finding.control
        green = control.judgement.outcome is Outcome.SURVIVED
        if control.green != green:
            yield Remark(filed.file, "/control/green", control.green, f"{green}, by its judgement")
        caught = not missed(finding.faults)
        # Whether the host was fit is for the rules of derivation: it can only make a verdict invalid.
        expected = {
            conclude(finding.judgement, faults_caught=caught, control_green=green, valid=valid)
            for valid in (True, False)
        }
        if finding.verdict not in expected:
            yield Remark(filed.file, "/verdict", finding.verdict, " or ".join(sorted(expected)))


@rule(
    ERROR,
    "A fault that was planted has samples, and one that was not was not caught.",
    "It would pass for caught without having been tried.",
)
def fault_planted(subject: Subject) -> Iterable[Remark]:
    for filed, index, trial in _trials(subject):
        if (trial.planted == "nowhere") != (not trial.observations) and not trial.reason.startswith("broke"):
            samples = f"{len(trial.observations)} samples"
            expected = "none" if trial.planted == "nowhere" else "at least one"
            yield Remark(filed, f"/faults/{index}/observations", samples, expected)


@rule(
    ERROR,
    "What a trial says of itself follows from whether it was caught.",
    "What people read is not what was found.",
)
def fault_reason(subject: Subject) -> Iterable[Remark]:
    for filed, index, trial in _trials(subject):
        if trial.planted != "nowhere" and trial.observations:
            green = f"stayed green over {len(trial.observations)} cases"
            expected = "turned red" if trial.caught else green
            if trial.reason != expected:
                yield Remark(filed, f"/faults/{index}/reason", trial.reason, expected)


@rule(
    ERROR,
    "A dose has its fault's unit, and the smaller ones that were tried are smaller.",
    "The falsifier would seem sharper than it is.",
)
def fault_dose(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        demanded = {trial.name: trial.dose for trial in finding.faults if trial.must}
        for index, trial in enumerate(finding.faults):
            spec, at = FAULTS.get(trial.name), f"/faults/{index}"
            if spec is None:  # a fault of another version
                continue
            if trial.unit != spec.unit:
                yield Remark(filed.file, f"{at}/unit", trial.unit, spec.unit)
            if (
                not trial.must
                and trial.name in demanded
                and not milder(trial.dose, demanded[trial.name], spec)
            ):
                expected = f"a smaller dose than {demanded[trial.name]:g}"
                yield Remark(filed.file, f"{at}/dose", f"{trial.dose:g}", expected)


@rule(
    ERROR,
    "The control is an engine that is known to be good.",
    "Its colour would say nothing of the harness.",
)
def control_known(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        if finding.control is not None and finding.control.target != "fake":
            yield Remark(filed.file, "/control/target", finding.control.target, "fake")


@rule(
    ERROR,
    "What was attacked can do what the claim asks for.",
    "Such an attack cannot have been made.",
)
def target_capable(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        if filed.falsifier is not None and finding.judgement is not None:
            lacking = set(filed.falsifier.requires) - set(finding.target["capabilities"])
            if lacking:
                yield Remark(filed.file, "/target/capabilities", f"no {', '.join(sorted(lacking))}", "them")


def _trials(subject: Subject) -> Iterator[tuple[str, int, FaultTrial]]:
    for filed, finding in subject.findings:
        for index, trial in enumerate(finding.faults):
            yield filed.file, index, trial


RULES: tuple[Rule[Subject], ...] = (
    contract_copy,
    samples_readable,
    derived_control,
    derived_faults,
    derived_sensitivity,
    derived_judgement,
    derived_figure,
    derived_reason,
    derived_counters,
    derived_counterexample,
    derived_verdict,
    rejudged,
    verdict_agrees,
    fault_planted,
    fault_reason,
    fault_dose,
    control_known,
    target_capable,
)
