"""A small valid contract as data and as YAML, kinds and faults for it to name, and what is said of it."""

import copy
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from refute.contract import Contract, ContractError, load_contract
from refute.faults.base import FaultSpec
from refute.kinds.base import Kind

FAULTS = {
    name: FaultSpec(name, seam, "something", default, doses, unit)
    for name, seam, default, doses, unit in (
        ("stale-row", "cache", 8.0, (1.0, 4.0), "rows"),
        ("temperature-scaled", "sampler", 1.5, (1.1,), "x"),
        ("slow-clock", "clock", 0.9, (0.95,), "x floor"),
    )
}


@dataclass(frozen=True, slots=True)
class Parameters:
    max_tokens: int
    margin: str = "0.001 logit"

    def __post_init__(self) -> None:
        if self.max_tokens < 2:
            raise ValueError(f"max_tokens is {self.max_tokens}, expected at least 2")


class Searched(Kind[Parameters]):
    name = "searched"
    requires = frozenset({"token_ids"})
    parameters_type = Parameters
    bound_fields = frozenset({"cases", "confidence"})
    stricter = MappingProxyType({"cases": "higher", "confidence": "higher", "margin": "lower"})


class Measured(Kind[Parameters]):
    name = "measured"
    requires = frozenset({"timing"})
    parameters_type = Parameters
    bound_fields = frozenset({"of", "statistic", "above", "below", "confidence", "runs", "testbeds"})
    unit = "tok/s"
    measured = "decode-rate"
    timing = True
    stricter = MappingProxyType(
        {"above": "higher", "below": "lower", "confidence": "higher", "runs": "higher"}
    )


KINDS: dict[str, type[Kind[Any]]] = {"searched": Searched, "measured": Measured}

_CONTRACT: dict[str, Any] = {
    "id": "example-v1",
    "version": "1.1.0",
    "title": "An example",
    "description": "What the tests read.",
    "model": {"name": "A model", "architecture": "qwen3moe", "sha256": ["a" * 64, "b" * 64]},
    "references": ["A paper"],
    "scope": {"in": ["one sequence"], "out": []},
    "falsifiers": [
        {
            "id": "exact",
            "alias": "EXACT_1",
            "claim": "It is exact.",
            "kind": "searched",
            "requires": ["token_ids", "chunks"],
            "with": {"max_tokens": 32, "margin": "0.01 logit"},
            "bound": {"cases": 40, "confidence": 0.95},
            "must_catch": ["stale-row", "temperature-scaled=1.25"],
            "needs": [],
            "discharge": "full-model",
        },
        {
            "id": "fast",
            "claim": "It is fast.",
            "kind": "measured",
            "requires": ["timing"],
            "with": {"max_tokens": 32},
            "bound": {
                "of": "decode-rate",
                "statistic": "median",
                "above": "5 tok/s",
                "confidence": 0.99,
                "runs": 15,
                "testbeds": ["host-1", "host-2"],
            },
            "must_catch": ["slow-clock"],
            "needs": ["example-v1/exact"],
            "discharge": "embedded",
        },
    ],
    "history": [
        {"version": "1.0.0", "date": "2026-11-23", "change": "Registered."},
        {"version": "1.1.0", "date": "2026-11-24", "change": "More cases."},
    ],
}


def contract_data() -> dict[str, Any]:
    """Give a contract that has no fault, to be changed at will."""
    return copy.deepcopy(_CONTRACT)


def write_contract(folder: Path, data: object, name: str = "example-v1") -> Path:
    """Write data as YAML in block style."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def change(index: int, key: str, value: object, part: str | None = None) -> dict[str, Any]:
    """Give the contract with one value of one falsifier (or of a part of it) changed."""
    data = contract_data()
    entry = data["falsifiers"][index]
    (entry if part is None else entry[part])[key] = value
    return data


def load(path: Path) -> Contract:
    return load_contract(path, kinds=KINDS, faults=FAULTS)


def load_data(folder: Path, data: object, name: str = "example-v1") -> Contract:
    return load(write_contract(folder, data, name))


def problems_of(folder: Path, text: str) -> list[str]:
    """Give what is said of a text, without the file's name."""
    path = folder / "example-v1.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ContractError) as caught:
        load(path)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def problems_of_data(folder: Path, data: object) -> list[tuple[str, str, str]]:
    """Give what, expected and fix of each problem of data."""
    with pytest.raises(ContractError) as caught:
        load_data(folder, data)
    return [(problem.what, problem.expected, problem.fix) for problem in caught.value.problems]
