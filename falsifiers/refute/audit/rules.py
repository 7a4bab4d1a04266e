"""The table of all rules."""

from refute.audit import contracts, derivation, identity, origin, samples, signature, telemetry, times, trees
from refute.audit.rule import Rule
from refute.audit.subject import Subject

OF_RUNS: tuple[Rule[Subject], ...] = (
    *identity.RULES,
    *contracts.RULES,
    *derivation.RULES,
    *times.RULES,
    *samples.RULES,
    *telemetry.RULES,
    *origin.RULES,
    *signature.RULES,
)
OF_TREES: tuple[Rule[trees.Trees], ...] = trees.RULES
