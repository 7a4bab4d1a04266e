"""Model faults in the simulated engine, which has no file: its logits move towards those of other states.

How far is the share of the layers that are affected, or the distance of the factor from 1; a fault in an
expert moves only the tokens that go to it. Letters: T new tokens, V vocabulary, K experts per token.
"""

import numpy as np

from refute.faults.base import Fault
from refute.faults.planted import Planted
from refute.targets.base import CannotPlant
from refute.targets.fake_model import LAYERS, logits_of, mix

_OF_LAYERS = frozenset({"qk-norm-ones", "kv-weights-permuted", "experts-swapped", "expert-zeroed"})
_OF_FACTORS = frozenset({"rope-base", "router-scaled", "tensor-scaled"})
_OF_EXPERTS = {"expert-zeroed": (0,), "experts-swapped": (0, 1)}


def mutant(fault: Fault, *, dense: bool) -> Planted:
    """Fit a model fault to the simulated model. Raises `CannotPlant` where it has nothing to change."""
    if dense and (fault.name in _OF_EXPERTS or fault.name == "router-scaled"):
        raise CannotPlant(f"{fault}: the model has no MoE layer")
    if fault.name in _OF_LAYERS and fault.dose >= 1:
        return Planted(fault, layers=min(int(fault.dose), LAYERS))
    if fault.name in _OF_FACTORS and fault.dose not in (0.0, 1.0):
        return Planted(fault)
    raise CannotPlant(f"{fault}: there is nothing like that in the simulated model")


def mutant_logits(planted: Planted, states: np.ndarray, experts: np.ndarray) -> np.ndarray:
    """Return logits (T, V) float32 of states (T,) and experts (T, LAYERS, K); honest ones for no fault."""
    logits = logits_of(states)
    name, dose = planted.fault.name if planted.fault else "", planted.dose
    if name == "tensor-scaled":
        return logits * np.float32(dose)
    share = np.zeros(len(states), np.float32)  # (T,)
    if name in _OF_FACTORS:
        share[:] = min(abs(dose - 1), 1.0)
    elif name in _OF_LAYERS:
        share[:] = planted.layers / LAYERS
    if name in _OF_EXPERTS:
        share *= np.isin(experts[:, LAYERS - planted.layers :], _OF_EXPERTS[name]).any(axis=(1, 2))
    if not share.any():
        return logits
    moved: np.ndarray = logits + share[:, None] * (logits_of(mix(states)) - logits)
    return moved


def mutant_shares(planted: Planted, shares: np.ndarray) -> np.ndarray:
    """Return the experts' shares (..., K), which sum to 1; a scaled router sharpens or flattens them."""
    if not planted.has("router-scaled"):
        return shares
    sharper: np.ndarray = shares**planted.dose
    sharper /= sharper.sum(axis=-1, keepdims=True)
    return sharper
