"""An honest tree, made as users make one: a small contract, attacked on the embedded model, under git.

Its two runs are made once per session. `Bundle` holds a run in memory, so that a thousand edits cost little.
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refute.attempts import Present
from refute.audit.examine import examine
from refute.audit.rule import Objection
from refute.audit.subject import Entry, Folder, Here, Library, Subject
from refute.contract import load_contract
from refute.reader import CONTRACT, SIGNATURE, SUMMARY, listing
from refute.strict_json import dump_strict, load_strict

TEXT = """\
id: audited-v1
version: 1.0.0
title: A contract to audit
description: Every form that a finding has, in a few seconds.
model:
  name: none
  architecture: qwen3moe
  sha256: ["0000000000000000000000000000000000000000000000000000000000000000"]
references: []
scope: {in: [tests], out: []}
falsifiers:
  - id: cached
    alias: AUDITED_CACHED
    claim: The cache changes no token.
    kind: cache-equivalence
    requires: [token_ids, cache_off, chunks]
    with: {max_tokens: 6, prompt_tokens: [2, 8], margin: 0.001 logit}
    bound: {cases: 4, confidence: 0.95}
    must_catch: [empty-cache]
    needs: []
    discharge: embedded
  - id: floor
    claim: Decoding keeps a floor.
    kind: tok-floor
    requires: [token_ids, timing]
    with: {max_tokens: 6, prompt_tokens: 4}
    bound: {of: decode-rate, statistic: median, above: 2 tok/s, confidence: 0.99, runs: 8, testbeds: [any]}
    must_catch: [slow-clock]
    needs: [audited-v1/cached]
    discharge: embedded
  - id: answers
    claim: Answers have the form of the API.
    kind: answer-form
    requires: [http]
    with: {max_tokens: 4, pieces: 2}
    bound: {cases: 2, confidence: 0.95}
    must_catch: [wire-done-dropped]
    needs: []
    discharge: embedded
  - id: bits
    claim: The cache changes no bit of a logit, which is false of this backend.
    kind: sequence-equivalence
    requires: [token_ids, cache_off, sessions]
    with: {operations: [extend, decode], steps: 3, sequences: 1, tokens: 8, gap: 0.01 %}
    bound: {cases: 8, confidence: 0.95}
    must_catch: [chunk-dependent]
    needs: []
    discharge: embedded
  - id: promised
    claim: As the one before, where the engine promises it.
    kind: sequence-equivalence
    requires: [token_ids, cache_off, sessions, bitwise]
    with: {operations: [extend, decode], steps: 3, sequences: 1, tokens: 8, gap: 0.01 %}
    bound: {cases: 8, confidence: 0.95}
    must_catch: [chunk-dependent]
    needs: []
    discharge: embedded
history:
  - {version: 1.0.0, date: 2026-11-23, change: Registered.}
"""
# `refute`, on a host that is as steady as it has to be, however many tests run beside it.
_STEADY = """
import sys
from refute import noise
from refute.cli import main

timed, late = noise._timed, noise._late

def steady(times):
    for taken, _ in timed(times):
        yield 2_000_000 + taken % 100_000, 2_000_000 + taken % 100_000

noise._timed = steady
noise._late = lambda times: (each % 100_000 for each in late(times))
noise._ticks = lambda: None
sys.argv[0] = "refute"
sys.exit(main())
"""
_GIT = ("-c", "user.name=tests", "-c", "user.email=tests@example.invalid", "-c", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, with nothing of the user's configuration."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", *_GIT, "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def make_tree(folder: Path) -> Path:
    """Attack the contract twice, the second time its floor alone; return the tree, committed."""
    contracts = folder / "contracts"
    contracts.mkdir(parents=True)
    (contracts / "audited-v1.yaml").write_text(TEXT)
    git(folder, "init", "-q", "-b", "main")
    _commit(folder)
    for arguments in ((), ("-k", "floor")):
        named = ["--seed", "7", "--backend", "array"]  # it lacks what some of the claims require
        command = [sys.executable, "-c", _STEADY, "run", "contracts", *named, *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode in (1, 5), (
            done.stdout + done.stderr
        )  # one claim is false; then others unobserved
        _commit(folder)
    return folder / "evidence"


def _commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "as it is")


@dataclass
class Bundle:
    """One run, in memory."""

    path: str
    contract: str
    run: str
    files: dict[str, bytes]
    link: bool = False
    error: str = ""
    keys: tuple[Any, ...] = ()
    others: Mapping[str, Entry] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Bundle":
        files = {each.name: each.read_bytes() for each in sorted(path.iterdir())}
        return cls(str(path), path.parent.name, path.name, files)

    def copy(self) -> "Bundle":
        return dataclasses.replace(self, files=dict(self.files), others=dict(self.others))

    def json(self, name: str) -> dict[str, Any]:
        return load_strict(self.files[name])

    def edit(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        document = self.json(name)
        change(document)
        self.files[name] = dump_strict(document)

    def rehash(self) -> None:
        """Make the listing agree with the files again, as an editor who knows of it does."""

        def relist(document: dict[str, Any]) -> None:
            document["contract"]["bytes_sha256"] = listing(CONTRACT, self.files.get(CONTRACT, b""))["sha256"]
            listed = [entry for entry in document["files"] if entry["file"] in self.files]
            named = {entry["file"] for entry in (*listed, *document["findings"])}
            listed += [{"file": name} for name in self.files if name not in {*named, SUMMARY, SIGNATURE}]
            document["files"] = [listing(entry["file"], self.files[entry["file"]]) for entry in listed]
            document["findings"] = [each for each in document["findings"] if each["file"] in self.files]
            for entry in document["findings"]:
                entry.update(listing(entry["file"], self.files[entry["file"]]))
                entry["verdict"] = self.json(entry["file"]).get("verdict", entry["verdict"])

        try:
            self.edit(SUMMARY, relist)
        except (KeyError, ValueError, TypeError):  # the listing itself is gone, or no JSON: nothing to redo
            return

    def subject(self, here: Here, library: Library) -> Subject:
        entries = {name: Entry.of(data) for name, data in self.files.items()}
        folder = Folder(
            self.path, self.contract, self.run, {**entries, **self.others}, link=self.link, error=self.error
        )
        here = dataclasses.replace(here, keys=self.keys) if self.keys else here
        return Subject.of(folder, here, library)


@dataclass
class Audited:
    """The honest tree, its two runs, and what is known where it is audited."""

    tree: Path
    whole: Bundle
    again: Bundle
    here: Here
    library: Library

    @classmethod
    def of(cls, tree: Path) -> "Audited":
        contract = load_contract(tree.parent / "contracts" / "audited-v1.yaml")
        whole, again = map(Bundle.read, sorted((tree / contract.id).iterdir()))
        summary = again.json(SUMMARY)
        here = Here(
            Present.here(),
            now=datetime.now(UTC),
            contracts={contract.id: contract},
            harness=summary["provenance"]["harness"]["digest"],
        )
        return cls(tree, whole, again, here, Library())

    def objections(self, bundle: Bundle, here: Here | None = None) -> list[Objection]:
        return examine(bundle.subject(here or self.here, self.library))
