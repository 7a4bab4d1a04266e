"""Model faults: another file. A key or some tensors differ, all else is the same byte for byte.

Layers count from the last one back: a fault in the last layer alone is the mildest. What needs values that
can be multiplied is planted in float tensors, where it is exact: the router, and the last norm, whose
factor is the factor of all logits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as TensorType

from refute.faults.base import Fault
from refute.faults.gguf_parts import GgufParts, Tensor
from refute.targets.base import CannotPlant

ARCHITECTURES = ("qwen3", "qwen3moe")
_FLOATS: Mapping[TensorType, np.dtype[Any]] = {
    TensorType.F32: np.dtype("<f4"),
    TensorType.F16: np.dtype("<f2"),
}
_MERGES = "tokenizer.ggml.merges"

Change = Callable[[Tensor], np.ndarray]
"""a tensor -> its new bytes, flat uint8"""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file with a fault, not yet written. changed: the keys and tensors that differ."""

    parts: GgufParts
    changed: tuple[str, ...]


def mutate(fault: Fault, parts: GgufParts) -> Mutant:
    """Return the file with this fault; its tensors change when they are written.

    Raises `CannotPlant` for other faults, for a dose that makes no sense and for models in which the fault
    changes nothing.
    """
    architecture = parts.value("general.architecture")
    if architecture not in ARCHITECTURES:
        known = " or ".join(ARCHITECTURES)
        raise CannotPlant(f"{fault}: the model's architecture is {architecture!r}; expected {known}")
    if parts.value("split.count") not in (None, 0, 1):
        raise CannotPlant(f"{fault}: {parts.path.name} is a part of a split model; expected one file")
    if fault.name not in _MAKERS:
        raise CannotPlant(f"{fault}: not a fault of the model")
    new = _MAKERS[fault.name](_Model(fault, parts, str(architecture)))
    keys = [name for name in parts.keys if new.keys[name] != parts.keys[name]]
    tensors = [name for name in parts.tensors if new.tensors[name] is not parts.tensors[name]]
    # the first tensor that differs decides: the others are not read
    if not keys and not any(_differ(new.tensors[name], parts.tensors[name]) for name in tensors):
        raise CannotPlant(f"{fault}: it would change nothing in {parts.path.name}")
    return Mutant(new, (*keys, *tensors))


class _Model:
    """A file, and what the faults ask of it."""

    def __init__(self, fault: Fault, parts: GgufParts, architecture: str) -> None:
        self.fault = fault
        self.parts = parts
        self.architecture = architecture

    def refuse(self, why: str) -> CannotPlant:
        return CannotPlant(f"{self.fault}: {why}")

    def size(self, name: str, default: int = 0) -> int:
        """A dimension, by its key without the architecture; `default` where the file has none."""
        key = f"{self.architecture}.{name}"
        found = self.parts.value(key)
        if key in self.parts.keys and not isinstance(found, int):
            raise self.refuse(f"{self.parts.path.name} has other than one whole number for {key}")
        return found if isinstance(found, int) else default

    @property
    def factor(self) -> float:
        dose = self.fault.dose
        if not (0 < dose < math.inf) or dose == 1:
            raise self.refuse("expected a factor above 0 other than 1")
        return dose

    @property
    def count(self) -> int:
        dose = self.fault.dose
        if not dose >= 1 or dose % 1:  # NaN and infinity fail too
            raise self.refuse("expected a whole number from 1 on")
        return int(dose)

    def of_last_layers(self, *names: str) -> list[str]:
        """The tensors of these names in the last layers, as many as the dose says."""
        layers = self.size("block_count")
        affected = range(max(layers - self.count, 0), layers)
        return [f"blk.{layer}.{name}.weight" for layer in affected for name in names]

    def experts(self, fewest: int) -> int:
        found = self.size("expert_count")
        if found < fewest:
            raise self.refuse(f"the model has {found or 'no'} experts; expected {fewest} or more")
        return found

    def changing(
        self,
        names: Sequence[str],
        change: Change,
        *,
        of: Sequence[TensorType] = tuple(TensorType),
        runs: int = 1,
    ) -> GgufParts:
        """Return the file with these tensors changed.

        Each must be there, be of one of the types, and fall into so many runs of as many bytes.
        """
        for name in names:
            tensor = self.parts.tensors.get(name)
            if tensor is None or tensor.nbytes % runs:
                raise self.refuse(f"{self.parts.path.name} has no tensor {name} of {runs} equal parts")
            if tensor.type not in of:
                known = " or ".join(kind.name for kind in of)
                raise self.refuse(f"{name} is of type {tensor.type.name}; expected {known}")
        new = {name: _reading(self.parts.tensors[name], change) for name in names}
        return replace(self.parts, tensors={**self.parts.tensors, **new})


def _rope_base(model: _Model) -> GgufParts:
    key = f"{model.architecture}.rope.freq_base"
    base = model.parts.value(key)
    if not isinstance(base, float):
        raise model.refuse(f"{model.parts.path.name} has no number {key}")
    try:
        new = model.parts.number_like(key, base * model.factor)
    except OverflowError:
        raise model.refuse(f"{base:g} times the dose is too large for a float32") from None
    return replace(model.parts, keys={**model.parts.keys, key: new})


def _qk_norm_ones(model: _Model) -> GgufParts:
    def ones(tensor: Tensor) -> np.ndarray:
        return _bytes(np.ones(tensor.shape, _FLOATS[tensor.type]))

    return model.changing(model.of_last_layers("attn_q_norm", "attn_k_norm"), ones, of=[*_FLOATS])


def _kv_weights_permuted(model: _Model) -> GgufParts:
    # rows of one head are one run of bytes; the norm of keys is shared by the heads, so it stays
    heads = model.size("attention.head_count_kv", model.size("attention.head_count"))
    if heads < 2:
        raise model.refuse("the model has one kv head, there is nothing to permute")

    def roll(tensor: Tensor) -> np.ndarray:
        return np.roll(tensor.read().reshape(heads, -1), 1, axis=0).reshape(-1)

    return model.changing(model.of_last_layers("attn_k", "attn_v"), roll, runs=heads)


def _router_scaled(model: _Model) -> GgufParts:
    model.experts(fewest=2)
    if model.size("expert_used_count") == 1:
        raise model.refuse("one expert is chosen, whose share is 1 whatever the router says")
    layers = range(model.size("block_count"))
    return _scaled(model, [f"blk.{layer}.ffn_gate_inp.weight" for layer in layers])


def _experts_swapped(model: _Model) -> GgufParts:
    count = model.experts(fewest=2)

    def swap(tensor: Tensor) -> np.ndarray:
        experts = tensor.read().reshape(count, -1).copy()
        experts[[0, 1]] = experts[[1, 0]]
        return experts.reshape(-1)

    return model.changing(
        model.of_last_layers("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"), swap, runs=count
    )


def _expert_zeroed(model: _Model) -> GgufParts:
    # bytes of 0 are values of 0 in float types and in all quantized ones whose scale is in the block
    count = model.experts(fewest=1)

    def zero(tensor: Tensor) -> np.ndarray:
        experts = tensor.read().reshape(count, -1).copy()
        experts[0] = 0
        return experts.reshape(-1)

    return model.changing(model.of_last_layers("ffn_down_exps"), zero, runs=count)


def _type_misread(model: _Model) -> GgufParts:
    tensors = model.parts.tensors
    chosen = [name for name, tensor in tensors.items() if tensor.type is TensorType.Q6_K][-model.count :]
    if not chosen:
        raise model.refuse("the model has no tensor of type Q6_K")
    new = {name: replace(tensors[name], type=TensorType.Q4_K) for name in chosen}
    new = {name: _reading(tensor, _start) for name, tensor in new.items()}
    return replace(model.parts, tensors={**tensors, **new})


def _tensor_scaled(model: _Model) -> GgufParts:
    return _scaled(model, ["output_norm.weight"])


def _merge_dropped(model: _Model) -> GgufParts:
    merges = model.parts.strings(_MERGES)
    if merges is None or not merges.ends:
        raise model.refuse("the model's tokenizer has no merges")
    kept = max(len(merges.ends) - model.count, 0)
    return replace(model.parts, keys={**model.parts.keys, _MERGES: merges.first(kept)})


_MAKERS: Mapping[str, Callable[[_Model], GgufParts]] = {
    "rope-base": _rope_base,
    "qk-norm-ones": _qk_norm_ones,
    "kv-weights-permuted": _kv_weights_permuted,
    "router-scaled": _router_scaled,
    "experts-swapped": _experts_swapped,
    "expert-zeroed": _expert_zeroed,
    "type-misread": _type_misread,
    "tensor-scaled": _tensor_scaled,
    "merge-dropped": _merge_dropped,
}


def _scaled(model: _Model, names: Sequence[str]) -> GgufParts:
    factor = model.factor

    def scale(tensor: Tensor) -> np.ndarray:
        values = tensor.read().view(_FLOATS[tensor.type])
        with np.errstate(over="ignore", under="ignore"):
            scaled = (values.astype(np.float64) * factor).astype(values.dtype)
        if not np.isfinite(scaled).all() or np.count_nonzero(scaled) != np.count_nonzero(values):
            raise model.refuse(
                f"values of {tensor.type.name} would become infinite or 0; expected a milder dose"
            )
        return _bytes(scaled)

    return model.changing(names, scale, of=[*_FLOATS])


def _start(tensor: Tensor) -> np.ndarray:
    """As many bytes as its type needs; there may be more."""
    return tensor.read()[: tensor.nbytes]


def _reading(tensor: Tensor, change: Change) -> Tensor:
    return replace(tensor, read=lambda: change(tensor))


def _differ(a: Tensor, b: Tensor) -> bool:
    return a.type is not b.type or not np.array_equal(a.read(), b.read())


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)
