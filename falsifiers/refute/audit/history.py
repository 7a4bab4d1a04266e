"""What git's history says of a tree: a record that was committed and is not what it was, or is gone.

Only git is asked, never a remote; nothing that the repository configures is run.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from refute.reader import APPENDED, SUMMARY

_QUIET = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "-c", "log.showSignature=false")
_DEPTH = 3  # contract, run, file
_NOTHING = "0"


@dataclass(frozen=True, slots=True)
class Change:
    """One file of a record that is not what it was. path: below the tree. commit: that changed it last."""

    path: str
    what: str
    commit: str


@dataclass(frozen=True, slots=True)
class History:
    """One tree's. unknown: why there is none; else empty. shallow: it does not reach back to its start.

    lost: changed by commits. restored: changed by commits, and put back. unsaved: changed and not committed.
    untracked: runs that were never committed, below the tree.
    """

    unknown: str = ""
    shallow: bool = False
    lost: tuple[Change, ...] = ()
    restored: tuple[Change, ...] = ()
    unsaved: tuple[Change, ...] = ()
    untracked: tuple[str, ...] = ()


@dataclass(slots=True)
class _File:
    """What history says of one file: its blobs, the first one first, and the commit that changed it last."""

    blobs: list[str] = field(default_factory=list)
    commit: str = ""


def read_history(tree: Path) -> History:
    """Ask git of the repository around a tree."""
    try:
        root = Path(_git(tree, "rev-parse", "--show-toplevel").strip())
        shallow = _git(tree, "rev-parse", "--is-shallow-repository").strip() == "true"
        _git(tree, "rev-parse", "--verify", "-q", "HEAD^{commit}")
        below = tree.resolve().relative_to(root.resolve()).as_posix()
        files = _files(_git(tree, *_LOG, "--", "."), below)
        head = _blobs(_git(tree, "ls-tree", "-r", "-z", "--full-tree", "HEAD", "--", below), below)
        unsaved = _unsaved(_git(tree, "diff", *_RAW, "HEAD", "--", "."), below)
        others = _git(tree, "ls-files", "--others", "--exclude-standard", "-z", "--", ".")
    except FileNotFoundError:
        return History(unknown="git is not installed")
    except (subprocess.SubprocessError, ValueError) as error:
        text = (getattr(error, "stderr", None) or "").strip().splitlines()
        return History(unknown=text[0].removeprefix("fatal: ")[:200] if text else "no commit to ask")
    lost, restored = [], []
    for path, known in files.items():
        now, first = head.get(path, _NOTHING), known.blobs[0]
        if now == first:
            if len(set(known.blobs)) > 1:
                restored.append(Change(path, "changed and put back", known.commit))
        elif not _went_on(tree, path, first, now):
            lost.append(Change(path, "deleted" if now == _NOTHING else "edited", known.commit))
    untracked = {
        "/".join(path.split("/")[:2]) for path in others.split("\0") if path.count("/") >= _DEPTH - 1
    }
    return History("", shallow, tuple(lost), tuple(restored), unsaved, tuple(sorted(untracked)))


_RAW = ("--raw", "-z", "--no-abbrev", "--no-renames", "--no-ext-diff", "--no-textconv")
_LOG = ("log", "-m", "--full-history", "--reverse", "--topo-order", "--format=commit:%H", *_RAW)


def _git(directory: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1", "LC_ALL": "C"}
    command = ["git", *_QUIET, "-C", str(directory), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=True, timeout=120, env=environment
    )
    return done.stdout


def _files(log: str, below: str) -> Mapping[str, _File]:
    """Every file of a record that a log tells of, oldest commit first."""
    files: dict[str, _File] = {}
    commit, tokens = "", iter(log.split("\0"))
    for token in tokens:
        text = token.strip("\n")
        if text.startswith("commit:"):
            commit = text.removeprefix("commit:").strip("\n")
            continue
        if not text.startswith(":"):
            continue
        _, _, old, new, status = text.split()
        path = _below(next(tokens, ""), below)
        if path is None:
            continue
        known = files.setdefault(path, _File([old] if status != "A" else []))
        known.blobs.append(_NOTHING if status == "D" else new)
        if status != "A":
            known.commit = commit
    return files


def _blobs(listing: str, below: str) -> dict[str, str]:
    """What lies in a commit, by path below the tree."""
    found = {}
    for line in filter(None, listing.split("\0")):
        about, _, path = line.partition("\t")
        own = _below(path, below)
        if own is not None:
            found[own] = about.split()[2]
    return found


def _unsaved(diff: str, below: str) -> tuple[Change, ...]:
    tokens = iter(diff.split("\0"))
    changes = []
    for token in tokens:
        if token.startswith(":"):
            status, path = token.split()[4], _below(next(tokens, ""), below)
            if path is not None and status != "A":
                changes.append(Change(path, "deleted" if status == "D" else "edited", ""))
    return tuple(changes)


def _below(path: str, tree: str) -> str | None:
    """A path of the repository as one below the tree; None of what is no file of a run."""
    prefix = "" if tree == "." else f"{tree}/"
    own = path.removeprefix(prefix)
    inside = path.startswith(prefix) and own.count("/") >= _DEPTH - 1 and not own.startswith(".")
    return own if inside else None


def _went_on(tree: Path, path: str, first: str, now: str) -> bool:
    """Whether a run that was committed while it went on was only sealed since."""
    name = path.rpartition("/")[2]
    if now == _NOTHING or name not in (SUMMARY, *APPENDED):
        return False
    before, after = (_git(tree, "cat-file", "blob", blob) for blob in (first, now))
    if name in APPENDED:  # a line that was not written to its end is dropped
        return after.startswith(before[: before.rfind("\n") + 1])
    return '\n"state": "running",' in before
