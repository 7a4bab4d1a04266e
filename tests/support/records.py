"""Small honest records: a contract of three falsifiers, two kinds that need no engine, and runs of them."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refute.attempts import Present
from refute.contract import Contract, Falsifier, load_contract
from refute.derived import bound_as_data, counters_of, reason_for, sensitivity_of
from refute.finding import Control, FaultTrial, Finding, Setting
from refute.kinds.base import Kind, Measured, Observation, Searched
from refute.reader import Run, read_run
from refute.record import FileSystem, RunWriter, Sealed
from refute.recordable import Requested
from refute.redaction import Secrets
from refute.status import Claim, status
from refute.strict_json import dump_strict, load_strict
from refute.verdict import Outcome, Status, Verdict, conclude

FACTS = (
    *("system", "kernel", "machine", "cpu_model", "logical_cpus", "cores_usable", "cpu_quota", "governor"),
    *("memory_bytes", "memory_limit_bytes", "gpus", "virtualization", "container"),
)
FULL, EMBEDDED, OTHER = "f" * 64, "e" * 64, "0" * 64
BUILD = "engine-build-1"
PRESENT = Present(engine_digest=BUILD, embedded_sha256=EMBEDDED)

CONTRACT = f"""\
id: demo-v1
version: 1.0.0
title: A demonstration
description: Three claims.
model: {{name: Big-Model, architecture: qwen3moe, sha256: [{FULL}]}}
references: [none]
scope: {{in: [tests], out: [all else]}}
falsifiers:
  - id: exact
    alias: DEMO_EXACT
    claim: No value is above the limit.
    kind: cache-equivalence
    requires: [token_ids]
    with: {{limit: 10}}
    bound: {{cases: 3, confidence: 0.95}}
    must_catch: [stale-row, empty-cache]
    needs: []
    discharge: full-model
  - id: floor
    claim: The rate is at least 5 tokens per second.
    kind: tok-floor
    requires: [token_ids, timing]
    with: {{limit: 10}}
    bound: {{of: decode-rate, statistic: median, above: 5 tok/s, confidence: 0.9, runs: 5, testbeds: [any]}}
    must_catch: [slow-clock]
    needs: [demo-v1/exact]
    discharge: full-model
  - id: small
    claim: No value is above the limit, and the embedded model is enough to show it.
    kind: cache-equivalence
    requires: [token_ids]
    with: {{limit: 20}}
    bound: {{cases: 3, confidence: 0.95}}
    must_catch: [stale-row]
    needs: []
    discharge: embedded
history:
  - {{version: 1.0.0, date: 2026-11-23, change: Registered.}}
"""


@dataclass(frozen=True, slots=True)
class Limit:
    limit: int


class Above(Searched[Limit]):
    name, rule_version = "cache-equivalence", "1"
    requires = frozenset({"token_ids"})
    parameters_type = Limit

    def cases(self, target: Any) -> Any:
        raise NotImplementedError

    def observe(self, target: Any, case: Any) -> Observation:
        raise NotImplementedError

    def refutes(self, observation: Observation) -> bool:
        return bool(observation.samples["value"] > self.parameters.limit)


class Rate(Measured[Limit]):
    name, rule_version = "tok-floor", "1"
    requires = frozenset({"token_ids"})
    parameters_type = Limit

    def plan(self, target: Any, runs: int, seed: int) -> Any:
        raise NotImplementedError

    def observe(self, target: Any, case: Any) -> Observation:
        raise NotImplementedError

    def measure(self, observation: Observation) -> float:
        return float(observation.samples["value"])


def kinds(name: str) -> type[Kind[Any]]:
    return {"cache-equivalence": Above, "tok-floor": Rate}[name]


def contract_at(folder: Path, text: str = CONTRACT) -> Contract:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "demo-v1.yaml"
    path.write_text(text)
    return load_contract(path)


def observations(*values: float) -> tuple[Observation, ...]:
    return tuple(Observation({"case": n}, {"value": value}) for n, value in enumerate(values))


GREEN = {"exact": (1, 2, 3), "floor": (9.0, 8.5, 9.5, 9.25, 8.75), "small": (1, 2, 3)}
RED = {"exact": (1, 99), "floor": (1.0, 1.5, 2.0, 1.25, 1.75), "small": (1, 99)}
STRADDLING = {"exact": (1, 2), "floor": (1.0, 9.0, 9.5, 1.25, 9.25), "small": (1, 2)}


def target(model: str = EMBEDDED, build: str = BUILD, **changes: Any) -> dict[str, Any]:
    return {
        "name": "bundled",
        "engine": "refute_runtime",
        "engine_version": "0.1.0",
        "engine_digest": build,
        "model_path": "model.gguf",
        "model_name": "model",
        "model_sha256": model,
        "architecture": "qwen3moe",
        "layers": 2,
        "moe_layers": 2,
        "dense_layers": 0,
        "experts": 8,
        "vocabulary": 100,
        "context": 64,
        "simulated": False,
        "settings": {"backend": "array"},
        "capabilities": ["timing", "token_ids"],
        **changes,
    }


def blank(contract: Contract, falsifier: Falsifier, run: str, **changes: Any) -> Finding:
    common: dict[str, Any] = {
        "run": run,
        "contract": contract.id,
        "contract_version": contract.version,
        "contract_semantic_sha256": contract.semantic_sha256,
        "falsifier": falsifier.id,
        "alias": falsifier.alias,
        "claim": falsifier.claim,
        "kind": falsifier.kind,
        "rule_version": "1",
        "verdict": Verdict.ERROR,
        "reason": "the falsifier broke",
        "figure": "",
        "bound": bound_as_data(falsifier.bound),
        "parameters": dict(falsifier.parameters),
        "seed": 0,
        "target": target(),
        "settings": (
            Setting("backend", "array", "array", "array"),
            Setting("seed", 0, 0, None),
        ),
        "started": "2026-11-24T00:00:00.000Z",
        "ended": "2026-11-24T00:00:01.500Z",
    }
    return Finding(**{**common, **changes})


def finding(
    contract: Contract,
    name: str,
    run: str,
    *,
    values: Mapping[str, Sequence[float]] = GREEN,
    model: str = EMBEDDED,
    build: str = BUILD,
    caught: bool = True,
    control: Mapping[str, Sequence[float]] = GREEN,
) -> Finding:
    """An honest finding: judged, figured and concluded as an attack does it."""
    falsifier = next(each for each in contract.falsifiers if each.id == name)
    kind = kinds(falsifier.kind)(Limit(**falsifier.parameters))
    bound = falsifier.bound
    fake = observations(*control[name])
    control_judgement = kind.judge(fake, bound)
    known_good = Control("fake", control_judgement.outcome is Outcome.SURVIVED, control_judgement, fake)
    trials = tuple(
        FaultTrial(
            fault.name,
            fault.dose,
            "rows",
            "target",
            must=True,
            caught=caught,
            reason="",
            observations=observations(*(RED if caught else GREEN)[name]),
        )
        for fault in falsifier.must_catch
    )
    seen = observations(*values[name])
    worst = next((each for each in seen if isinstance(kind, Searched) and kind.refutes(each)), None)
    judged = seen if worst is None else (*seen, worst)
    judgement = kind.judge(judged, bound)
    verdict = conclude(judgement, faults_caught=caught, control_green=known_good.green, valid=True)
    return blank(
        contract,
        falsifier,
        run,
        verdict=verdict,
        reason=reason_for(verdict, judgement, known_good, trials, ()),
        figure=kind.figure(judgement, bound),
        target=target(model, build),
        observations=seen,
        counterexample=worst,
        replays=None if worst is None else True,
        judgement=judgement,
        control=known_good,
        faults=trials,
        sensitivity=sensitivity_of(trials),
        counters=counters_of(judged),
        seconds=1.5,
    )


class Unsynced(FileSystem):
    """Does not wait for the disk: what a killed process leaves does not depend on it."""

    def fsync(self, descriptor: int) -> None:
        pass

    def fsync_directory(self, path: Path) -> None:
        pass


def provenance(testbed: str = "a" * 64) -> dict[str, Any]:
    return {
        "git": {"commit": None, "dirty": None, "diff_sha256": None, "reason": "not a git repository"},
        "facts": {
            **{name: {"value": None, "source": "a test"} for name in FACTS},
            "logical_cpus": {"value": 2, "source": "a test"},
            "gpus": {"value": [], "source": "a test"},
        },
        "testbed": testbed,
        "python": {"implementation": "CPython", "version": "3.11.0"},
        "packages": {"refute": "0.1.0"},
        "argv": ["refute", "run"],
        "environment": [],
        "seeds": {"run": 0},
        "harness": {"name": "refute", "version": "0.1.0", "digest": "b" * 64},
    }


def opened(
    tree: Path,
    contract: Contract,
    selected: Iterable[str] = ("exact", "floor", "small"),
    *,
    run: str | None = None,
    testbed: str = "a" * 64,
    files: FileSystem | None = None,
    resumes: Sealed | None = None,
    requested: Requested = Requested(target="bundled", backend="array", seed=0),  # noqa: B008 (frozen)
    secrets: Secrets = Secrets(),  # noqa: B008 (frozen)
) -> RunWriter:
    return RunWriter.open(
        tree,
        contract,
        selected=list(selected),
        provenance=provenance(testbed),
        requested=requested,
        secrets=secrets,
        resumes=resumes,
        run=run,
        files=files or Unsynced(),
    )


def write_run(
    tree: Path,
    contract: Contract,
    selected: Sequence[str] = ("exact", "floor", "small"),
    *,
    number: int = 1,
    testbed: str = "a" * 64,
    make: Callable[..., Finding] = finding,
    **how: Any,
) -> Path:
    """Write one sealed run. number: orders runs. how: given to `finding`."""
    writer = opened(tree, contract, selected, run=run_id(number), testbed=testbed)
    for name in selected:
        writer.write(make(contract, name, writer.run, **how))
    writer.seal()
    return writer.path


def run_id(number: int) -> str:
    return f"20261124T{number // 3600:02d}{number // 60 % 60:02d}{number % 60:02d}.000Z-{number:08x}"


def edit(path: Path, change: Callable[[dict[str, Any]], None], *, rehash: bool) -> None:
    """Change one JSON file of a run; with `rehash`, list its new digest as a dishonest editor would."""
    document = load_strict(path.read_bytes())
    change(document)
    path.write_bytes(dump_strict(document))
    if rehash:
        relist(path.parent, path.name)


def relist(run: Path, name: str) -> None:
    data = (run / name).read_bytes()

    def update(summary: dict[str, Any]) -> None:
        for entry in (*summary["findings"], *summary["files"]):
            if entry["file"] == name:
                entry["sha256"], entry["bytes"] = hashlib.sha256(data).hexdigest(), len(data)
                if "verdict" in entry:
                    entry["verdict"] = json.loads(data)["verdict"]

    edit(run / "findings.json", update, rehash=False)


def read(path: Path) -> Run:
    return read_run(path)


def changed(source: Finding, **changes: Any) -> Finding:
    return dataclasses.replace(source, **changes)


def claims(
    contract: Contract, *trees: Path, present: Present = PRESENT, resolver: Callable[..., Any] = kinds
) -> dict[str, Claim]:
    """Judge the records in these trees."""
    overview = status([contract], trees, present=present, kinds=resolver)
    return {claim.falsifier: claim for claim in overview.claims}


def states(contract: Contract, *trees: Path, **how: Any) -> dict[str, Status]:
    return {name: claim.status for name, claim in claims(contract, *trees, **how).items()}
