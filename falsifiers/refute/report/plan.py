"""A plan before it is run, and what the gate says after it: what is discharged and what is open."""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from refute.gate import Decision, Ruling
from refute.plan import Plan
from refute.report.words import counted, seconds, short, table
from refute.verdict import Level, Status

_DISCHARGES_NOTHING = {
    Level.OTHER: "no file that the contract lists",
    Level.SIMULATED: "the engine is simulated",
}
_SHOWN = 160  # characters of a reason
_NAMED = 6  # claims that share one


def show_plan(plan: Plan, console: Console) -> None:
    """Print it."""
    console.print(Text(f"plan for the gate profile {plan.profile}", "bold"))
    if plan.planned:
        rows = table("claim", "level", "estimate", "estimated from")
        contract = ""
        for each in plan.planned:
            if each.contract != contract:
                contract = each.contract
                rows.add_row(Text(contract, "bold"))
            taken = each.estimate.seconds
            told = "unknown" if taken is None else _told(taken, least=each.estimate.least)
            rows.add_row(f"  {each.falsifier}", each.level, told, each.estimate.basis)
        console.print(rows)
    for level, why in _DISCHARGES_NOTHING.items():
        if any(each.level is level for each in plan.planned):
            told = f"note      level {level}: {why}, so that it can falsify and discharges nothing"
            console.print(Text(told, "yellow"), soft_wrap=True)
    counts: dict[str, int] = {}
    for left in plan.left_out:
        reason = left.reason.partition(",")[0].partition(":")[0]
        counts[reason] = counts.get(reason, 0) + 1
    for reason, count in counts.items():
        console.print(Text(f"left out  {counted(count, 'falsifier')}: {reason}", "dim"), soft_wrap=True)
    console.print(Text(f"{counted(len(plan.planned), 'falsifier')} to attack, {_total(plan)} in all"))


def _told(taken: float, *, least: bool) -> str:
    return f"at least {seconds(taken)}" if least else seconds(taken)


def _total(plan: Plan) -> str:
    """All estimates together, as far as something is known."""
    known = [each.estimate.seconds for each in plan.planned if each.estimate.seconds is not None]
    if plan.planned and not known:
        return "unknown"
    return f"{'at least' if plan.least else 'about'} {seconds(sum(known))}"


def show_outcome(before: Decision, after: Decision, console: Console) -> None:
    """Print what a run changed: claims that pass now, those that still fail, each with its command.

    The same decision twice: nothing was run.
    """
    stood = {ruling.claim.name: ruling for ruling in before.rulings}
    passing = [each for each in after.rulings if each.outcome != "fails"]
    new = [each for each in passing if stood[each.claim.name].outcome == "fails"]
    discharged = [
        each
        for each in after.rulings
        if each.claim.status is Status.DISCHARGED
        and stood[each.claim.name].claim.status is not Status.DISCHARGED
    ]
    failing = [each for each in after.rulings if each.outcome == "fails"]
    console.print()
    console.print(
        Text(
            f"gate profile {after.profile}, {'as it stands' if before is after else 'after this run'}", "bold"
        )
    )
    _named(console, "discharged", discharged, "green")
    _named(console, "passes now", [each for each in new if each not in discharged], "green")
    for (reason, remedy, command), names in _grouped(failing, after.profile).items():
        shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if names[_NAMED:] else "")
        head = f"open        {short(reason, _SHOWN)} ({shown})"
        console.print(Text(head, "yellow"), soft_wrap=True)
        if remedy:
            console.print(Text(f"            {remedy}:"), soft_wrap=True)
        if command:
            console.print(Text(f"            $ {command}"), soft_wrap=True)
    verdict = "open" if after.passes else "closed"
    told = f"gate {after.profile}: {verdict}; {len(passing)} of {len(after.rulings)} claims pass"
    console.print(Text(told, "green" if after.passes else "bold red"))


def _named(console: Console, what: str, rulings: Iterable[Ruling], style: str) -> None:
    names = [ruling.claim.name for ruling in rulings]
    if names:
        console.print(Text(f"{what:<12}{', '.join(names)}", style), soft_wrap=True)


def _grouped(rulings: Iterable[Ruling], profile: str) -> dict[tuple[str, str, str], list[str]]:
    """Claims that share a reason are told together, with a command that clears it.

    That of one claim; where runs clear several, the run of what the profile lacks on the same model.
    """
    groups: dict[tuple[str, str, str], list[Ruling]] = {}
    for ruling in rulings:
        model = ruling.command.partition(" --model ")[2]
        groups.setdefault((ruling.reason, ruling.remedy, model), []).append(ruling)
    told = {}
    for (reason, remedy, model), members in groups.items():
        command = members[0].command
        if len(members) > 1 and command.startswith("refute run "):
            command = f"refute run --profile {profile}" + (f" --model {model}" if model else "")
        told[reason, remedy, command] = [member.claim.name for member in members]
    return told
