"""A document whose code blocks are files and commands: written and run as they stand."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)(?: +(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_RUN = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{8}")
_TIME = re.compile(r"\d+(\.\d+)? (s|m)\b")


@dataclass(frozen=True)
class Command:
    line: str
    shown: tuple[str, ...]


def steps(document: Path) -> Iterator[tuple[str, str] | Command]:
    """Files as (name, text) and commands with the lines that they are said to print, in order."""
    for language, name, text in _BLOCK.findall(document.read_text(encoding="utf-8")):
        if name:
            yield name, text
            continue
        assert language == "console", f"a {language} block without a file name"
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, *shown = part.splitlines()
            yield Command(line, tuple(filter(None, shown)))


def follow(document: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Do what the document says; fail where a line that it shows is not printed."""
    for step in steps(document):
        if isinstance(step, tuple):
            path = folder / step[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step[1], encoding="utf-8")
            continue
        done = subprocess.run(
            step.line,
            shell=True,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        printed = done.stdout + done.stderr
        assert "Traceback" not in printed, printed
        lines = iter(map(_plain, printed.splitlines()))
        for shown in step.shown:
            pattern = ".*".join(map(re.escape, _plain(shown).split("…")))
            assert any(re.search(pattern, line) for line in lines), (
                f"$ {step.line}\n{shown!r} not in\n{printed}"
            )


def _plain(line: str) -> str:
    return " ".join(_TIME.sub("TIME", _RUN.sub("RUN", line)).split())
