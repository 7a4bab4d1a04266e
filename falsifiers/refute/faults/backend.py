"""Backend faults: wrappers around the operations of the runtime's backend protocol.

A wrapper overrides what it breaks; every other operation is the backend's own. Letters: T tokens, H hidden,
E experts, K experts per token.
"""

from typing import Any

import numpy as np

from refute.faults.base import Fault
from refute.targets.base import CannotPlant

Array = Any  # numpy.ndarray or cupy.ndarray
Backend = Any  # refute_runtime's protocol, which this package does not import


class HonestOperations:
    """A backend that is another one."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class DenseDispatch(HonestOperations):
    """The first `layers` layers answer that they have no router, and run one expert as a dense layer."""

    def __init__(self, inner: Backend, layers: int) -> None:
        super().__init__(inner)
        self.layers = layers

    def routed(self, layer: int) -> bool:
        return layer >= self.layers and self.inner.routed(layer)

    def dense(self, layer: int, x: Array) -> Array:
        """(T, H), of expert 0 alone."""
        if layer >= self.layers:
            return self.inner.dense(layer, x)
        alone = (len(x), 1)
        return self.inner.experts(layer, x, np.zeros(alone, np.int64), np.ones(alone, np.float32))


class RoutingDependsOnCache(HonestOperations):
    """In forwards of one token, the layers from `first_layer` on take expert K + 1 instead of expert K.

    The gap stays the honest one: it is the distance between just these two.
    """

    def __init__(self, inner: Backend, first_layer: int) -> None:
        super().__init__(inner)
        self.first_layer = first_layer

    def route(self, layer: int, x: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        chosen, weights, gap = self.inner.route(layer, x)
        if len(x) != 1 or layer < self.first_layer:
            return chosen, weights, gap
        scores = self.inner.project(x, f"blk.{layer}.ffn_gate_inp.weight")[0]  # (E,)
        scores = scores.get() if hasattr(scores, "get") else scores  # CuPy to NumPy
        ranked, count = np.argsort(-scores, kind="stable"), chosen.shape[1]
        wrong = np.sort(np.append(ranked[: count - 1], ranked[count]))
        shares = np.exp(scores[wrong] - scores.max())
        return wrong[None], (shares / shares.sum())[None].astype(weights.dtype), gap


class ThreadRace(HonestOperations):
    """On more than one thread the first logit of every row is off by `dose`."""

    def __init__(self, inner: Backend, dose: float) -> None:
        super().__init__(inner)
        self.dose = dose

    def logits(self, x: Array) -> np.ndarray:
        """(T, V), a NumPy array."""
        logits: np.ndarray = self.inner.logits(x)
        if self.inner.threads > 1:
            logits[:, 0] += self.dose
        return logits


def wrap_backend(fault: Fault, inner: Backend, *, layers: int, of: int) -> Backend:
    """Return the backend with this fault in `layers` of the model's `of` layers."""
    match fault.name:
        case "dense-dispatch":
            return DenseDispatch(inner, layers)
        case "routing-depends-on-cache":
            return RoutingDependsOnCache(inner, of - layers)
        case "thread-race":
            return ThreadRace(inner, fault.dose)
        case _:
            raise CannotPlant(f"{fault}: not a fault of the backend")
