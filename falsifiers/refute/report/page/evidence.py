"""One attempt in full: its samples as a picture, the faults it caught, its counterexample, its command."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from refute.attempts import Attempt
from refute.clearing import how
from refute.contract import Bound, Contract, Falsifier
from refute.counterexample import SUFFIX
from refute.faults import FAULTS
from refute.faults.base import written_dose
from refute.finding import FaultTrial, Finding, Noise, Setting, demanded
from refute.kinds.base import Drawn, Kind, Searched
from refute.noise import score
from refute.rejudge import Kinds
from refute.report.page.data import CounterexamplePart, Dose, Evidence, FaultPart, Pair
from refute.report.page.pictures import Cases, Strip, cases, percent, strip
from refute.report.words import counted, seconds
from refute.units import format_quantity

_DIGITS = 12
_VALUE = 400  # characters of one value
STORY = 2000  # and of a reason
_LISTED = 60  # figures in words
_REPLAYS = {
    None: "it was not run once more",
    True: "it refuted the claim again when it was run once more",
    False: "it did not refute when it was run once more: the engine does not repeat itself",
}


def evidence_of(attempt: Attempt, contract: Contract, falsifier: Falsifier, kinds: Kinds) -> Evidence:
    """Show one attempt. contract, falsifier: as they are today; what is not stale is judged by them."""
    finding = attempt.finding
    picture, undrawn, figures = _picture(attempt, falsifier, kinds)
    return Evidence(
        run=attempt.run,
        verdict=attempt.verdict,
        reason=told(attempt.carried.reason, STORY),
        figure=attempt.carried.figure,
        picture=picture,
        undrawn=undrawn,
        samples=_listed(figures),
        control=_control(finding),
        faults=faults_of(finding.faults),
        counterexample=_counterexample(attempt),
        engine=engine_of(attempt),
        model=model_of(attempt),
        testbed=digits(attempt.testbed),
        facts=tuple(_facts(finding, attempt.run)),
        file=str(attempt.path / f"{finding.falsifier}.json"),
        command=_command(attempt, contract),
    )


def bound_of(finding: Finding) -> Bound:
    """The bound that a finding was judged by. Raises TypeError or KeyError for one that is none."""
    given = dict(finding.bound)
    if "testbeds" in given:
        given["testbeds"] = tuple(given["testbeds"])
    return Bound(**given)


def bound_in_words(bound: Bound) -> str:
    """A bound as a phrase: what is held to what, how often it is tried, how sure that makes one."""
    limits = (("at least", bound.above), ("at most", bound.below), ("within", bound.within))
    parts = [f"{word} {format_quantity(value, bound.unit)}" for word, value in limits if value is not None]
    if parts and bound.of:
        parts[0] = " ".join(filter(None, (bound.statistic, bound.of, parts[0])))
    if bound.cases is not None:
        parts.append(f"no counterexample in {counted(bound.cases, 'case')}")
    if bound.runs is not None:
        parts.append(counted(bound.runs, "run"))
    parts.append(f"{percent(bound.confidence)} confidence")
    if bound.testbeds is not None:
        parts.append(f"testbeds: {', '.join(each[:_DIGITS] for each in bound.testbeds)}")
    return ", ".join(parts)


def digits(digest: str) -> str:
    """The first digits of a digest, as people compare them."""
    return digest[:_DIGITS]


def engine_of(attempt: Attempt) -> str:
    """Engine, version and the first digits of its build; what it ran on."""
    target = attempt.finding.target
    if not target:
        return "nothing could be attacked"
    settings = target.get("settings", {})
    on = "/".join(str(settings[name]) for name in ("backend", "device", "numerics") if settings.get(name))
    parts = (attempt.engine, str(target.get("engine_version", "")), on, f"build {digits(attempt.build)}")
    return " ".join(filter(None, parts))


def model_of(attempt: Attempt) -> str:
    """The model's name and the first digits of its file."""
    target = attempt.finding.target
    digest = target.get("model_sha256")
    name = str(target.get("model_name", ""))
    return f"{name} ({digits(str(digest))})" if digest else name


def faults_of(trials: Sequence[FaultTrial]) -> tuple[FaultPart, ...]:
    """The faults that had to be caught, each with every dose that was tried."""
    parts = []
    for trial in demanded(trials):
        doses = [each for each in trials if each.name == trial.name and (each is trial or not each.must)]
        # Smaller doses are tried from the mildest on, so the last that was caught is the smallest of them.
        milder = [each for each in doses if each is not trial and each.caught]
        least = milder[-1] if milder else trial if trial.caught else None
        spec = FAULTS.get(trial.name)
        parts.append(
            FaultPart(
                name=trial.name,
                breaks=spec.breaks if spec else "",
                planted=trial.planted,
                doses=tuple(
                    Dose(written_dose(each.dose, each.unit), each.must, each.caught, each.reason)
                    for each in doses
                ),
                caught=trial.caught,
                smallest="none" if least is None else written_dose(least.dose, least.unit),
            )
        )
    return tuple(parts)


def figures_of(attempt: Attempt, falsifier: Falsifier, kinds: Kinds) -> tuple[Drawn, Bound] | None:
    """The figures of an attempt and the bound that it is held to; None where there is nothing to draw."""
    finding = attempt.finding
    if finding.judgement is None:
        return None
    try:
        kind: Kind[Any] = kinds(finding.kind).of(finding.parameters)
        bound = bound_of(finding) if attempt.stale else falsifier.bound
        drawn = kind.drawn(finding.observations, kind.judge(finding.judged, bound))
    except Exception:  # noqa: BLE001 (`evidence_of` says why, of the attempt that counts)
        return None
    return None if drawn is None else (drawn, bound)


def pairs_of(data: Mapping[str, Any], *, inside: str = "") -> list[Pair]:
    """Nested plain data as lines, `cpu.model`; lists and what is too long are cut."""
    lines: list[Pair] = []
    for name, value in data.items():
        if isinstance(value, Mapping) and value.keys() == {"value", "source"}:
            lines.append((f"{inside}{name}", f"{told(value['value'])} ({told(value['source'])})"))
        elif isinstance(value, Mapping) and value:
            lines += pairs_of(value, inside=f"{inside}{name}.")
        else:
            lines.append((f"{inside}{name}", told(value)))
    return lines


def told(value: Any, most: int = _VALUE) -> str:
    """One value in words; long ones are cut in the middle, and say how much is missing."""
    if value is None:
        return "not known"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if len(text) <= most:
        return text
    return f"{text[: most - 80]} … {len(text) - most} characters … {text[-80:]}"


def _picture(
    attempt: Attempt, falsifier: Falsifier, kinds: Kinds
) -> tuple[Strip | Cases | None, str, Sequence[float]]:
    """The picture, why there is none, and the figures in it."""
    finding = attempt.finding
    if finding.judgement is None:
        return None, "nothing was judged", ()
    try:
        kind: Kind[Any] = kinds(finding.kind).of(finding.parameters)
        bound = bound_of(finding) if attempt.stale else falsifier.bound
        judgement = kind.judge(finding.judged, bound)
        if isinstance(kind, Searched):
            states = [
                "refuting" if kind.refutes(each) else "clean" if kind.informative(each) else "idle"
                for each in finding.judged
            ]
            return cases(states, judgement.excluded_rate, bound.confidence), "", ()
        drawn = kind.drawn(finding.observations, judgement)
        if drawn is None:
            return None, "its samples are no quantity", ()
        picture = strip(drawn, bound)
        return picture, "" if picture else "no figure is finite", tuple(drawn.figures)
    except KeyError as error:
        return None, f"its kind is not installed here, or its samples lack {error}", ()
    except Exception as error:  # noqa: BLE001 (samples of another version, or edited ones, break a kind anyhow)
        return None, f"its samples cannot be drawn ({type(error).__name__}: {error})", ()


def _listed(figures: Sequence[float]) -> str:
    shown = [f"{each:.5g}" if math.isfinite(each) else "none" for each in figures[:_LISTED]]
    rest = len(figures) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _control(finding: Finding) -> str:
    control = finding.control
    if control is None:
        return ""
    colour = "green, as it must" if control.green else "red: the harness, not the engine, is to blame"
    return f"the known-good {control.target} engine came out {colour} ({control.judgement.reason})"


def _counterexample(attempt: Attempt) -> CounterexamplePart | None:
    finding = attempt.finding
    if finding.counterexample is None:
        return None
    return CounterexamplePart(
        case=tuple((name, told(value)) for name, value in finding.counterexample.case.items()),
        gave=tuple((name, told(value)) for name, value in finding.counterexample.samples.items()),
        replays=_REPLAYS[finding.replays],
        command=shlex.join(("refute", "replay", str(attempt.path / f"{finding.falsifier}{SUFFIX}"))),
    )


def _facts(finding: Finding, run: str) -> list[Pair]:
    origin = finding.kind_origin
    kind = f"{finding.kind}, rule version {finding.rule_version}"
    if origin is not None:
        kind += f", from {origin['distribution']} {origin['version']}"
    return [
        ("kind", kind),
        *pairs_of(finding.parameters),
        *((f"setting {each.name}", f"{told(each.effective)}{_asked(each)}") for each in finding.settings),
        ("seed", str(finding.seed)),
        ("started", f"{finding.started}, took {seconds(finding.seconds)}"),
        *([("attacked in run", finding.run)] if finding.run != run else []),
        *_host(finding.noise),
        ("contract version", finding.contract_version),
        *((f"counted {name}", f"{count:,}") for name, count in finding.counters.items()),
    ]


def _host(noise: Noise | None) -> list[Pair]:
    """How steady the host was for a claim about time."""
    lines = []
    for when, probe in () if noise is None else (("before", noise.before), ("during", noise.during)):
        derived = score(probe)
        shares = (
            ("waited for a processor", derived.waiting),
            ("equal work varied by", derived.variation),
            ("taken by other guests", derived.stolen),
        )
        parts = [f"{name} {value:.1%}" for name, value in shares if value is not None]
        parts += [] if derived.late_us is None else [f"sleeps ended {derived.late_us:.0f} us late"]
        lines.append((f"host {when} it", ", ".join(parts) or "too little was seen"))
    return lines


def _asked(setting: Setting) -> str:
    """What was asked for and what was seen, where that is something else."""
    parts = []
    if setting.requested is not None and setting.requested != setting.effective:
        parts.append(f"asked for {setting.requested}")
    if setting.observed is not None and setting.observed != setting.effective:
        parts.append(f"observed {setting.observed}")
    return f" ({', '.join(parts)})" if parts else ""


def _command(attempt: Attempt, contract: Contract) -> str:
    """What attacks the same claim again, as far as the record says how it was attacked."""
    finding = attempt.finding
    words = ["refute", "run", str(contract.path), "-k", finding.falsifier]
    if finding.seed:
        words += ["--seed", str(finding.seed)]
    return shlex.join([*words, *how(attempt.finding.target, attempt.level)])
