"""Whether a finding counts: what was asked for was attacked, on a host that was steady enough for its clock.

Pure, from what a finding holds: it runs when the verdict is drawn and again whenever a record is read.
"""

from collections.abc import Iterator

from refute import noise
from refute.finding import Finding, Setting


def invalidity(finding: Finding, *, paired: bool) -> list[str]:
    """Return every reason why the verdict counts for nothing; none where it counts.

    paired: as the kind is; noise is no reason against a ratio of two times that it makes longer alike.
    """
    reasons = [reason for setting in finding.settings for reason in _differences(setting)]
    return reasons if finding.noise is None or paired else [*reasons, *noise.excesses(finding.noise)]


def probed(finding: Finding, *, timing: bool) -> bool:
    """Whether the host is probed for it: a claim about time, on an engine whose clock is the host's."""
    return timing and not finding.target.get("simulated", False)


def _differences(setting: Setting) -> Iterator[str]:
    asked, told, seen = setting.requested, setting.effective, setting.observed
    if asked is not None and told is None and seen is None:
        yield f"{setting.name} {asked} was asked for, and the engine does not say what it ran with"
    elif asked is not None and told is not None and asked != told:
        yield f"{setting.name} {asked} was asked for, the engine says {told}"
    if told is not None and seen is not None and told != seen:
        yield f"{setting.name} was {told} before the attack and {seen} after it"
