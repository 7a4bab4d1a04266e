"""Dispatch is held to the model file: a backend that runs MoE layers as dense ones is refuted."""

import pytest

from refute.contract import load_contract
from refute.contract_files import find_contracts
from refute.faults.backend import DenseDispatch
from refute.kinds import kind_named
from refute.select import embedded_model
from refute.targets.bundled import BundledTarget
from refute.trials import sample
from refute_runtime.backends.array import ArrayBackend

CLAIMS = ("layers-as-in-file", "entry-points-run-moe-layers")


def falsifiers(root):
    contracts = (load_contract(path) for path in find_contracts(root))
    return {each.id: each for contract in contracts for each in contract.falsifiers if each.id in CLAIMS}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_backend_that_lies_about_its_layers_is_refuted(name, monkeypatch, tmp_path) -> None:
    falsifier = falsifiers(tmp_path)[name]
    kind = kind_named(falsifier.kind).of(falsifier.parameters)
    honest = BundledTarget(embedded_model(), "array")
    assert honest.identity.moe_layers == honest.identity.layers
    assert not kind.caught(sample(kind, falsifier.bound, honest, seed=1), falsifier.bound)

    plain = ArrayBackend
    monkeypatch.setattr(plain, "routed", lambda self, layer: layer > 1)
    monkeypatch.setattr(plain, "dense", lambda self, layer, x: DenseDispatch(self, 2).dense(layer, x))
    broken = BundledTarget(embedded_model(), "array")
    assert broken.identity.moe_layers == honest.identity.moe_layers
    assert kind.caught(sample(kind, falsifier.bound, broken, seed=1), falsifier.bound)
