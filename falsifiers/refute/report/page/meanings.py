"""The vocabulary in one sentence each, for readers who have not read anything else."""

from collections.abc import Mapping

from refute.verdict import Level, Status, Verdict

STATUSES: Mapping[Status, str] = {
    Status.TAMPERED: "A record is not as it was written, or its verdict does not follow from its samples.",
    Status.FALSIFIED: "Refuted on this engine and contract; later green attempts do not undo it.",
    Status.INVALID: "The harness or the host is to blame: a fault was missed, or the control came out red.",
    Status.ERROR: "The falsifier itself broke.",
    Status.STALE: "The contract, the rule or the engine changed since; it says nothing of what is here now.",
    Status.BLOCKED: "A precondition was missing, such as the model.",
    Status.UNOBSERVED: "Declared, and no run has given a verdict.",
    Status.INCONCLUSIVE: "Measured well, but the interval straddles the bound or there are too few runs.",
    Status.OPEN: "Only evidence of a lower level yet, or a claim that it needs does not hold yet.",
    Status.WAIVED: "Not discharged, and somebody answers for that until a date.",
    Status.DISCHARGED: "Attacked as planned on what the contract asks for, and not refuted.",
}

VERDICTS: Mapping[Verdict, str] = {
    Verdict.SURVIVED: "Attacked as planned, not refuted, and it caught every fault that it must catch.",
    Verdict.FALSIFIED: "Refuted: a counterexample, or samples that exclude the bound.",
    Verdict.INCONCLUSIVE: "The interval straddles the bound, or there are too few runs.",
    Verdict.INVALID: "A fault was not caught, the control came out red, or the host disturbed it.",
    Verdict.ERROR: "The falsifier itself broke.",
    Verdict.BLOCKED: "A precondition was missing.",
    Verdict.NOT_APPLICABLE: "The engine lacks a capability that the claim is about.",
}

LEVELS: Mapping[Level, str] = {
    Level.FULL_MODEL: "A model file that the contract lists by its digest.",
    Level.EMBEDDED: "The small model that comes with refute.",
    Level.SIMULATED: "A simulated engine.",
    Level.OTHER: "Any other model file or server; it can refute, and never discharges.",
}
