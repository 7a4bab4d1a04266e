"""What clears what blocks a claim: a command that can be typed here, and what has to be done before it."""

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refute.attempts import Attempt, Key
from refute.contract import Contract, Falsifier
from refute.reader import Discrepancy
from refute.select import MODEL_VARIABLE
from refute.verdict import Level, Status

_MOST = 8  # falsifiers that one command names; more are attacked with the rest of their contracts
_ELSEWHERE = "/path/to"  # of a model whose place records do not say


@dataclass(frozen=True, slots=True)
class Cure:
    """command: empty where nothing is to be done. remedy: what comes before it; empty where nothing does."""

    command: str = ""
    remedy: str = ""


def cure(
    contract: Contract,
    falsifier: Falsifier,
    state: Status,
    reason: str,
    *,
    declared: Mapping[Key, tuple[Contract, Falsifier]],
    behind: Attempt | None,
    discrepancies: Sequence[Discrepancy],
) -> Cure:
    """What clears the first blocking reason. behind: the attempt that gives the claim its status."""
    if state is Status.DISCHARGED:
        return Cure()
    if state is Status.TAMPERED:
        remedy = "restore the record as it was written; by whom it was changed, git may say"
        return Cure(f"git log --stat -- {shlex.quote(discrepancies[0].where)}", remedy)
    like = [] if behind is None else list(how(behind.finding.target, behind.level))
    if state is Status.FALSIFIED and behind is not None:
        remedy = (
            "mend the engine and attack its new build; or, where harness or host erred, invalidate run "
            f"{behind.run} in [tool.refute] of pyproject.toml"
        )
        return Cure(attacking([contract.path], [falsifier.id], like), remedy)
    if state is Status.OPEN:
        return _open(contract, falsifier, reason, declared, like)
    return Cure(attacking([contract.path], [falsifier.id]))


def _open(
    contract: Contract,
    falsifier: Falsifier,
    reason: str,
    declared: Mapping[Key, tuple[Contract, Falsifier]],
    like: Sequence[str],
) -> Cure:
    """Attack what is needed as the claim was attacked; else the model that discharges, where it counts."""
    need = next((need for need in falsifier.needs if f"needs {need}," in reason), None)
    if need is not None:
        of, _, name = need.partition("/")
        known = declared.get((of, name))
        return Cure(attacking([] if known is None else [known[0].path], [name], like))
    if reason.startswith("survived on testbed"):
        named = ", ".join(falsifier.bound.testbeds or ())
        return Cure(attacking([contract.path], [falsifier.id], like), f"on a host that is testbed {named}")
    if falsifier.discharge is Level.FULL_MODEL:
        model = ["--model", place_of(f"{contract.model.name}.gguf")]
        return Cure(attacking([contract.path], [falsifier.id], model))
    return Cure(attacking([contract.path], [falsifier.id]))


def attacking(paths: Iterable[Path | str], falsifiers: Sequence[str], options: Sequence[str] = ()) -> str:
    """The command that attacks these falsifiers; all of the contracts, where none is named."""
    chosen = ["-k", " or ".join(falsifiers)] if falsifiers else []
    return shlex.join(["refute", "run", *map(str, paths), *chosen, *options])


def how(target: Mapping[str, Any], level: Level) -> Iterator[str]:
    """The options that name what was attacked, as far as its record says it."""
    name, settings = target.get("name"), target.get("settings", {})
    if name not in (None, "", "bundled"):
        yield from ("--target", str(name))
    if name == "openai":
        yield from ("--endpoint", "URL")
    elif target.get("model_path") and level is not Level.EMBEDDED:
        yield from ("--model", place_of(str(target["model_path"])))
    if name == "bundled":
        for option, usual in (("backend", None), ("device", "cpu")):
            if settings.get(option, usual) != usual:
                yield from (f"--{option}", str(settings[option]))


def place_of(name: str) -> str:
    """Where a model file is: here, or where the environment says; else that is left to the reader."""
    if Path(name).is_file():
        return name
    known = os.environ.get(MODEL_VARIABLE, "")
    return known if Path(known).name == name and Path(known).is_file() else f"{_ELSEWHERE}/{name}"


def on_embedded(command: str) -> str:
    """The same attack on the embedded model."""
    return command.partition(" --model ")[0]


def together(commands: Sequence[str]) -> str:
    """One command that does what all of them do; empty where there is none."""
    each = [_parts(command) for command in dict.fromkeys(commands)]
    if len(each) == 1:
        return commands[0]
    runs = [run for run in each if run is not None]
    if len(runs) < len(each) or any(run[2] != runs[0][2] for run in runs):
        return ""
    paths = dict.fromkeys(path for run in runs for path in run[0])
    names = list(dict.fromkeys(name for run in runs for name in run[1]))
    everything = len(names) > _MOST or not all(run[1] for run in runs)
    return attacking(paths if all(run[0] for run in runs) else (), () if everything else names, runs[0][2])


def _parts(command: str) -> tuple[list[str], list[str], list[str]] | None:
    """Contracts, falsifiers and options of an attack; None of what is none."""
    words = iter(shlex.split(command))
    if [next(words, ""), next(words, "")] != ["refute", "run"]:
        return None
    paths, names, options = list[str](), list[str](), list[str]()
    for word in words:
        if word == "-k":
            names += next(words).split(" or ")
        elif word.startswith("--"):
            options += [word, next(words)]
        else:
            paths.append(word)
    return paths, names, options
