"""What the doctor found, one line for each check; below it what to do, where there is something."""

from rich.console import Console
from rich.text import Text

from refute.doctor.base import Diagnosis
from refute.report.words import counted

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def show_diagnosis(diagnosis: Diagnosis, console: Console) -> None:
    """Print it."""
    width = max(len(check.name) for check in diagnosis.checks)
    for check in diagnosis.checks:
        line = Text.assemble((f"{check.state:<5}", _STYLES[check.state]), f"{check.name:<{width}}  ")
        line.append(_clean(check.found))
        console.print(line, soft_wrap=True)
        if check.fix:
            console.print(Text(f"{'':{width + 7}}fix: {_clean(check.fix)}", "dim"), soft_wrap=True)
    states = [check.state for check in diagnosis.checks]
    worse = [f"{states.count(state)} {state}" for state in ("fail", "warn") if state in states]
    told = f"{counted(len(states), 'check')}: {', '.join(worse) or 'all ok'}"
    possible = "no run is possible" if "fail" in states else "a run is possible"
    console.print(Text(f"{told}; {possible}", _STYLES["fail" if "fail" in states else "ok"]))


def _clean(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)
