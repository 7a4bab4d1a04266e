"""A project with one small contract, and verdicts made to order."""

import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# pytester forgets the modules that a run imported: these cannot be imported twice in one process, or
# would be, beside those that other tests hold.
import hypothesis  # noqa: F401
import jsonschema  # noqa: F401
import numpy as np  # noqa: F401
import numpy.random  # noqa: F401 (NumPy imports it late)
import pytest
import rich.console  # noqa: F401
from small_contract import contract

import refute.attack
import refute.lint
from refute.attack import unattacked
from refute.finding import Control
from refute.kinds.base import Observation
from refute.recordable import identity_as_data
from refute.verdict import Judgement, Outcome, Verdict


@dataclass(frozen=True)
class Project:
    """A folder with contracts, and pytest in it."""

    pytester: pytest.Pytester

    def write(self, text: str, name: str = "small-v1", folder: str = "contracts") -> Path:
        path = self.pytester.path / folder / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def run(self, *arguments: str, target: str = "fake") -> pytest.RunResult:
        """Run pytest in this process, on the simulated engine."""
        return self.pytester.runpytest_inprocess(
            "-p", "no:rerunfailures", "--refute-target", target, *(arguments or ("contracts",))
        )

    def run_apart(self, *arguments: str, target: str = "fake") -> pytest.RunResult:
        """Run pytest in a process of its own."""
        command = [sys.executable, "-m", "pytest", "--refute-target", target, *(arguments or ("contracts",))]
        return self.pytester.run(*command, timeout=120)

    def summaries(self) -> dict[str, dict]:
        """Return `findings.json` of every run, by contract."""
        found = sorted((self.pytester.path / "evidence").glob("*/*/findings.json"))
        return {path.parent.parent.name: json.loads(path.read_text()) for path in found}

    def verdicts(self, contract: str = "small-v1") -> dict[str, str]:
        """Return the recorded verdicts of one contract, in the order they were reached."""
        return {each["falsifier"]: each["verdict"] for each in self.summaries()[contract]["findings"]}


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with `contracts/small-v1.yaml`: repeats, cached and floor."""
    monkeypatch.delenv("QWEN3_MOE_GGUF_PATH", raising=False)
    pytester.makeini("[pytest]\n")
    made = Project(pytester)
    made.write(contract())
    return made


@pytest.fixture
def decide(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Make attacks come out as told, for all or each by name; the list says who was asked."""

    def install(verdict: Verdict = Verdict.INCONCLUSIVE, **verdicts: Verdict) -> list[str]:
        asked: list[str] = []

        def attack(falsifier, target, *, contract, run, seed, **rest):
            asked.append(falsifier.id)
            outcome = verdicts.get(falsifier.id, verdict)
            finding = unattacked(
                falsifier,
                outcome,
                f"told to be {outcome}",
                contract=contract,
                run=run,
                seed=seed,
                target=identity_as_data(target),
            )
            if outcome not in (Verdict.SURVIVED, Verdict.FALSIFIED):
                return finding
            judgement = Judgement(Outcome(outcome.value), "told so", 1, int(outcome is Verdict.FALSIFIED))
            case = Observation({"prompt": [1, 2]}, {"cached": [3], "full": [4]})
            return dataclasses.replace(
                finding,
                figure="1 of 1 cases",
                control=Control("fake", True, judgement, ()),
                judgement=judgement,
                counterexample=case if outcome is Verdict.FALSIFIED else None,
                replays=True if outcome is Verdict.FALSIFIED else None,
            )

        monkeypatch.setattr(refute.attack, "attack", attack)
        return asked

    return install
