"""Every finding of every run, judged again, with its level of evidence and whether it is about what is here.

An attempt is stale when what the falsifier means (as far as `carried` cannot judge it again), the rule that
judges it or the engine's code changed since. Stale ones are still checked, as far as they can be.
"""

import gc
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from refute.carried import Carried, Since, carry, since, unchanged
from refute.contract import Contract, ContractError, load_contract
from refute.finding import Finding, without_samples
from refute.halves import in_halves
from refute.kinds import ANY
from refute.material import Materials
from refute.provenance import model_sha256, package_digest
from refute.reader import CONTRACT, Discrepancy, Record, Run, read_run, run_paths
from refute.rejudge import Kinds, Rejudge
from refute.select import embedded_model
from refute.verdict import Level, Verdict

BUNDLED = "refute_runtime"
RANK = {Level.FULL_MODEL: 3, Level.EMBEDDED: 2, Level.SIMULATED: 1, Level.OTHER: 0}
Key = tuple[str, str]  # contract, falsifier
_WORTH_A_PROCESS = 100  # runs


@dataclass(frozen=True, slots=True)
class Present:
    """What is here now, that records are compared with; None is not known here.

    engine_digest: of the bundled runtime. embedded_sha256: of the embedded model.
    """

    engine_digest: str | None
    embedded_sha256: str | None

    @classmethod
    def here(cls) -> "Present":
        """Read both from what is installed, without importing the runtime."""
        model = embedded_model()
        return cls(package_digest(BUNDLED), model_sha256(model) if model.is_file() else None)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One finding. stale: why it says nothing of what is here now; empty if it does.

    carried: its verdict, figure and reason under today's contract.
    """

    finding: Finding
    run: str
    path: Path
    testbed: str
    level: Level
    discrepancies: tuple[Discrepancy, ...]
    stale: str
    carried: Carried

    @property
    def verdict(self) -> Verdict:
        """The verdict under today's contract."""
        return self.carried.verdict

    @property
    def engine(self) -> str:
        """The engine's name; empty where nothing could be attacked."""
        return str(self.finding.target.get("engine", ""))

    @property
    def build(self) -> str:
        """The engine's content digest."""
        return str(self.finding.target.get("engine_digest", ""))

    @property
    def model(self) -> str:
        """The model file's digest; its name where there is no file."""
        return model_key(self.finding.target)

    @property
    def attacked(self) -> bool:
        """Whether it says something of the engine: judged samples, a breakdown, or that it does not apply."""
        verdict = self.finding.verdict
        return self.finding.judgement is not None or verdict in (Verdict.NOT_APPLICABLE, Verdict.ERROR)


@dataclass(frozen=True, slots=True)
class Attempts:
    """All that lies in some trees. of: by falsifier, in the order of their runs.

    spoilt: what is wrong with runs and listings, by the falsifiers that it concerns. unclaimed: runs
    of contracts that were not given. digests: a line for each run, its name and its list's sha256.
    """

    of: Mapping[Key, Sequence[Attempt]]
    spoilt: Mapping[Key, Sequence[Discrepancy]]
    runs: int
    unclaimed: tuple[str, ...]
    digests: tuple[str, ...]


def read_attempts(
    contracts: Sequence[Contract],
    trees: Iterable[Path],
    *,
    present: Present,
    kinds: Kinds,
    samples: bool = True,
) -> Attempts:
    """Read every record under the trees once.

    samples: keep those of all findings; without, thousands of records fit into memory once they are judged.
    """
    paths = sorted((path for tree in trees for path in run_paths(tree)), key=lambda path: path.name)
    with _without_collector():
        parts = in_halves(
            lambda some: _read(contracts, some, present, kinds, samples=samples),
            paths,
            least=len(paths) + 1 if samples else _WORTH_A_PROCESS,
        )
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: Sequence[Attempts]) -> Attempts:
    """Put together what was read in parts, in the order of the runs."""
    attempts: dict[Key, list[Attempt]] = defaultdict(list)
    spoilt: dict[Key, list[Discrepancy]] = defaultdict(list)
    for part in parts:
        for key, found in part.of.items():
            attempts[key] += found
        for key, problems in part.spoilt.items():
            spoilt[key] += problems
    return Attempts(
        attempts,
        spoilt,
        sum(part.runs for part in parts),
        tuple(path for part in parts for path in part.unclaimed),
        tuple(sorted(digest for part in parts for digest in part.digests)),
    )


@contextmanager
def _without_collector() -> Iterator[None]:
    """Pause the collector of cycles: records have none, and it would look at all of them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(
    contracts: Sequence[Contract], paths: Sequence[Path], present: Present, kinds: Kinds, *, samples: bool
) -> Attempts:
    by_id = {contract.id: contract for contract in contracts}
    sources = _Sources({contract.bytes_sha256: contract for contract in contracts})
    judge = _Judge(kinds)
    materials = None if samples else Materials()
    attempts: dict[Key, list[Attempt]] = defaultdict(list)
    spoilt: dict[Key, list[Discrepancy]] = defaultdict(list)
    unclaimed, digests = [], []
    for path in paths:
        contract = by_id.get(path.parent.name)
        weighed = _Weighed(contract, sources, judge, present, samples=samples)
        run = read_run(path, materials, weighed.take)
        if weighed.unread:
            weighed = _Weighed(contract, sources, judge, present, samples=samples)
            run = read_run(path, None, weighed.take)
        digests.append(f"{run.contract}/{run.run} {run.sha256}")
        if contract is None:
            unclaimed.append(str(run.path))
            continue
        declared = [falsifier.id for falsifier in contract.falsifiers]
        problems = [*run.problems, *_against_source(run, sources)]
        for attempt in weighed.attempts:
            falsifier = attempt.finding.falsifier
            attempts[contract.id, falsifier].append(attempt)
            if falsifier not in declared:
                problems += attempt.discrepancies
        for problem in problems:
            # What concerns no falsifier of today concerns them all: nobody else would show it.
            for falsifier in [problem.falsifier] if problem.falsifier in declared else declared:
                spoilt[contract.id, falsifier].append(problem)
    return Attempts(attempts, spoilt, len(paths), tuple(unclaimed), tuple(sorted(digests)))


class _Weighed:
    """The findings of one run as attempts on today's contract, weighed one by one as they are read.

    unread: a finding was not judged before and its samples were left unread: the run must be read whole.
    """

    def __init__(
        self,
        contract: Contract | None,
        sources: "_Sources",
        judge: "_Judge",
        present: Present,
        *,
        samples: bool,
    ) -> None:
        self.attempts: list[Attempt] = []
        self.unread = False
        self._contract = contract
        self._sources = sources
        self._judge = judge
        self._present = present
        self._samples = samples

    def take(self, run: Run, record: Record) -> None:
        """Weigh one finding of a run that was read so far as to tell whether it is readable."""
        if self._contract is None:
            return
        source = self._sources.of(run) if _readable(run) else None
        if source is not None and not record.whole and not self._judge.remembers(record, source):
            self.unread = True
            return
        attempt = _attempt(run, record, self._contract, source, present=self._present, judge=self._judge)
        if not self._samples and record.whole:
            attempt = replace(attempt, finding=self._judge.small(attempt.finding))
        self.attempts.append(attempt)


def model_key(target: Mapping[str, object]) -> str:
    """Return what tells a target's model from others: its file's digest; its name where there is no file."""
    return str(target.get("model_sha256") or target.get("model_name", ""))


def level_of(target: Mapping[str, object], contract: Contract, present: Present) -> Level:
    """Derive what a finding is evidence about from the target that was attacked."""
    digest = target.get("model_sha256")
    if target.get("simulated"):
        return Level.SIMULATED
    if digest is not None and digest in contract.model.sha256:
        return Level.FULL_MODEL
    if digest is not None and digest == present.embedded_sha256:
        return Level.EMBEDDED
    return Level.OTHER


class _Sources:
    """Contracts by the digest of their bytes: each text is read once, however many runs hold it."""

    def __init__(self, known: Mapping[str, Contract]) -> None:
        self._known: dict[str, Contract | None] = dict(known)

    def of(self, run: Run) -> Contract | None:
        """The contract that lies in a readable run; None where this version cannot read it."""
        digest = run.summary["contract"]["bytes_sha256"]
        if digest not in self._known:
            try:
                self._known[digest] = load_contract(run.path / CONTRACT, kinds=ANY)
            except ContractError:
                self._known[digest] = None
        return self._known[digest]


def _readable(run: Run) -> bool:
    """Whether the run as a whole, and so its contract, is what it says."""
    return bool(run.summary) and all(problem.falsifier is not None for problem in run.problems)


def _against_source(run: Run, sources: _Sources) -> Iterable[Discrepancy]:
    """Compare what a run says of its contract with the contract that lies in it."""
    contract = sources.of(run) if _readable(run) else None
    if contract is None:
        return
    claimed, plan = run.summary["contract"], run.summary["plan"]
    declared = [falsifier.id for falsifier in contract.falsifiers]
    for pointer, found, expected in (
        ("/contract/id", claimed["id"], contract.id),
        ("/contract/version", claimed["version"], contract.version),
        ("/contract/semantic_sha256", claimed["semantic_sha256"], contract.semantic_sha256),
        ("/plan/falsifiers", plan["falsifiers"], declared),
    ):
        if found != expected:
            yield Discrepancy(str(run.path / "findings.json"), pointer, str(found), str(expected))


class _Judge:
    """Judges findings again, and carries them over to today's contract; one of each material is enough."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._rejudge = Rejudge(kinds)
        self._changes: dict[tuple[str, str, str], Since | None] = {}
        self._known: dict[tuple[int, bytes], tuple[str, Carried]] = {}  # by source and material
        self._small: dict[Key, Finding] = {}

    def remembers(self, record: Record, source: Contract) -> bool:
        """Whether a finding of this material was judged."""
        return (id(source), record.material) in self._known

    def __call__(
        self, run: Run, record: Record, source: Contract, contract: Contract
    ) -> tuple[tuple[Discrepancy, ...], str, Carried]:
        """What is wrong with a finding, why its rule is not here, and what it says of today's contract."""
        finding = record.finding
        key = (id(source), record.material or b"")
        if record.material is not None and key in self._known:
            unjudged, before = self._known[key]
            return (), unjudged, before
        rejudged = self._rejudge(record, str(run.path), source)
        if rejudged.discrepancies:
            return rejudged.discrepancies, rejudged.unjudged, unchanged(finding)
        carried = unchanged(finding)
        if not rejudged.unjudged:
            change = self._since(source, contract, finding.falsifier)
            carried = carried if change is None else carry(finding, change, self._kinds(finding.kind))
        if record.material is not None:
            self._known[key] = rejudged.unjudged, carried
        return (), rejudged.unjudged, carried

    def small(self, finding: Finding) -> Finding:
        """What is kept of a finding that was judged."""
        key = (finding.contract, finding.falsifier)
        small = self._small[key] = without_samples(finding, self._small.get(key))
        return small

    def _since(self, old: Contract, new: Contract, name: str) -> Since | None:
        """How a falsifier of `old` changed; None where nothing did that matters, or `new` gave it up."""
        if old.semantic_sha256 == new.semantic_sha256 or all(each.id != name for each in new.falsifiers):
            return None
        key = (old.bytes_sha256, new.bytes_sha256, name)
        if key not in self._changes:
            kind = next(each.kind for each in old.falsifiers if each.id == name)
            self._changes[key] = since(old, new, name, self._kinds(kind))
        return self._changes[key]


def _attempt(
    run: Run,
    record: Record,
    contract: Contract,
    source: Contract | None,
    *,
    present: Present,
    judge: _Judge,
) -> Attempt:
    finding = record.finding
    discrepancies: tuple[Discrepancy, ...] = ()
    carried = unchanged(finding)
    if source is None:
        stale = "the contract in its run cannot be read here"
    else:
        discrepancies, unjudged, carried = judge(run, record, source, contract)
        stale = unjudged or carried.stale
    build, here = str(finding.target.get("engine_digest")), present.engine_digest
    if not stale and finding.target.get("engine") == BUNDLED and here is not None and build != here:
        stale = f"the engine's code changed: {build[:12]} was attacked, {here[:12]} is here"
    level = min(
        (level_of(finding.target, each, present) for each in (source or contract, contract)),
        key=RANK.__getitem__,
    )
    testbed = str(run.summary["provenance"]["testbed"])
    return Attempt(finding, run.run, run.path, testbed, level, discrepancies, stale, carried)
