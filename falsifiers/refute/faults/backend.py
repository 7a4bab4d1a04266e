"""Backend faults: wrappers around the operations of the runtime's backend protocol.

A wrapper overrides what it breaks; every other operation is the backend's own. What strikes a share of the
positions chooses them by their content, not by counting, so that every chunking is struck alike.
Letters: T tokens, H hidden, E experts, K experts per token, V vocabulary.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from refute.faults.base import Fault
from refute.targets.base import CannotPlant

Array = Any  # numpy.ndarray or cupy.ndarray
Backend = Any  # refute_runtime's protocol, which this package does not import

_OF_LOGITS = ("logits-perturbed", "logits-not-finite")
_NEEDS_OTHERS = (
    "routing-depends-on-cache",
    "router-top-k-off",
    "weights-not-renormalised",
    "router-collapsed",
)
_NOISE_SEED = 20_003
_RANKED = 8


class HonestOperations:
    """A backend that is another one."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class CountedForwards(HonestOperations):
    """Counts the forwards that are begun, whoever begins them; no fault."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.begun = 0

    def embed(self, tokens: Sequence[int]) -> Array:
        self.begun += 1
        return self.inner.embed(tokens)


class NonFiniteLogit(HonestOperations):
    """The lowest logit of the last position is minus infinity in the first `forwards` forwards."""

    def __init__(self, inner: Backend, forwards: int) -> None:
        super().__init__(inner)
        self.left = forwards

    def logits(self, x: Array) -> np.ndarray:
        """Give (T, V)."""
        honest: np.ndarray = self.inner.logits(x).copy()
        if self.left:
            self.left -= 1
            honest[-1, honest[-1].argmin()] = -np.inf
        return honest


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
        scores = _router_scores(self.inner, layer, x)[0]  # (E,)
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


class SumsReordered(HonestOperations):
    """In forwards of several tokens every first logit is off by so many units in the last place."""

    def __init__(self, inner: Backend, units: float) -> None:
        super().__init__(inner)
        self.units = int(units)
        self._several = False

    def embed(self, tokens: Sequence[int]) -> Array:
        self._several = len(tokens) > 1
        return self.inner.embed(tokens)

    def logits(self, x: Array) -> np.ndarray:
        """(T, V), a NumPy array."""
        logits: np.ndarray = self.inner.logits(x)
        return reordered(logits, self.units) if self._several else logits


def reordered(logits: np.ndarray, units: int) -> np.ndarray:
    """Return logits (T, V) whose first column is off by so many units in the last place."""
    off = logits.copy()
    off[:, 0] += units * np.spacing(off[:, 0])
    return off


class WeightsNotRenormalised(HonestOperations):
    """The layers from `first_layer` on weigh experts by their share of all E probabilities, not of K."""

    def __init__(self, inner: Backend, first_layer: int) -> None:
        super().__init__(inner)
        self.first_layer = first_layer

    def route(self, layer: int, x: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        chosen, weights, gap = self.inner.route(layer, x)
        if layer < self.first_layer:
            return chosen, weights, gap
        shares = np.exp(_router_scores(self.inner, layer, x))  # (T, E), of scores whose largest is 0
        shares /= shares.sum(axis=-1, keepdims=True)
        return chosen, np.take_along_axis(shares, chosen, axis=-1).astype(weights.dtype), gap


class RouterTopKOff(HonestOperations):
    """The layers from `first_layer` on pass over the best expert and take the K after it."""

    def __init__(self, inner: Backend, first_layer: int) -> None:
        super().__init__(inner)
        self.first_layer = first_layer

    def route(self, layer: int, x: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        chosen, weights, gap = self.inner.route(layer, x)
        if layer < self.first_layer:
            return chosen, weights, gap
        scores = _router_scores(self.inner, layer, x)  # (T, E)
        ranked = np.argsort(-scores, axis=-1, kind="stable")
        wrong = np.sort(ranked[:, 1 : chosen.shape[1] + 1], axis=-1)
        return wrong, _shares(scores, wrong).astype(weights.dtype), gap


class RouterCollapsed(HonestOperations):
    """A share of the tokens is sent to the first K experts, in every layer."""

    def __init__(self, inner: Backend, share: float) -> None:
        super().__init__(inner)
        self.share = share

    def route(self, layer: int, x: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        chosen, weights, gap = self.inner.route(layer, x)
        scores = _router_scores(self.inner, layer, x)  # (T, E)
        hit = struck(scores, self.share)[:, None]  # (T, 1)
        first = np.broadcast_to(np.arange(chosen.shape[1]), chosen.shape)
        return (
            np.where(hit, first, chosen),
            np.where(hit, _shares(scores, first), weights).astype(weights.dtype),
            gap,
        )


class MisstatedLogits(HonestOperations):
    """Logits that are not what the output layer made of the last state."""

    def __init__(self, inner: Backend, fault: Fault) -> None:
        super().__init__(inner)
        self.fault = fault

    def logits(self, x: Array) -> np.ndarray:
        return misstate(self.fault, self.inner.logits(x))


def misstate(fault: Fault | None, logits: np.ndarray) -> np.ndarray:
    """Return logits (T, V) with a fault of the logits; unchanged where it is another one, or none."""
    match fault:
        case Fault("logits-perturbed", dose):
            # the same noise for every row, so that only another engine's numbers show it
            noise = np.random.default_rng(_NOISE_SEED).uniform(-dose, dose, (1, logits.shape[-1]))
            off: np.ndarray = logits + noise.astype(logits.dtype)
            return off
        case Fault("logits-not-finite", share):
            wrong = logits.copy()
            hit = struck(logits, share)
            wrong[hit, logits.argmin(axis=-1)[hit]] = np.nan  # where greedy decoding would not look
            return wrong
        case _:
            return logits


def struck(rows: np.ndarray, share: float) -> np.ndarray:
    """Mask (T,) of about this share of rows (T, n), by order and rough distances of their largest values.

    Both survive what another chunking does to the last bits.
    """
    count = min(rows.shape[-1], _RANKED)
    largest = np.argpartition(-rows, count - 1, axis=-1)[:, :count]
    values = np.take_along_axis(rows, largest, axis=-1)
    order = np.argsort(-values, axis=-1, kind="stable")
    ranked = np.take_along_axis(largest, order, axis=-1)
    steps = np.rint(-10 * np.diff(np.take_along_axis(values, order, axis=-1), axis=-1))
    content = np.concatenate((ranked, steps), axis=-1).astype("<i8")
    digests = [zlib.crc32(row.tobytes()) for row in content]
    return np.array(digests, dtype=np.float64) < share * 2.0**32


def affected_layers(fault: Fault, *, layers: int, experts: int, experts_per_token: int) -> int:
    """Count the layers that the fault changes, of `layers`; all of them where its dose counts other things.

    Raises `CannotPlant` where it would change nothing.
    """
    if fault.name in ("guard-fires", "counters-stuck"):
        if fault.dose < 1:
            raise CannotPlant(f"{fault}: needs a dose of at least one forward")
        return 0
    if fault.name == "thread-race":
        return layers
    if fault.name == "sums-reordered":
        if fault.dose < 1:
            raise CannotPlant(f"{fault}: needs a dose of at least one unit in the last place")
        return layers
    if fault.name not in _OF_LOGITS and not experts:
        raise CannotPlant(f"{fault}: the model has no MoE layer")
    if fault.name in _NEEDS_OTHERS and experts <= experts_per_token:
        raise CannotPlant(f"{fault}: every expert is chosen, there is no other one")
    if fault.name in (*_OF_LOGITS, "router-collapsed"):
        if fault.dose <= 0:
            raise CannotPlant(f"{fault}: needs a dose above 0")
        return layers
    if fault.dose < 1:
        raise CannotPlant(f"{fault}: needs a dose of at least one layer")
    return layers if fault.name == "dense-on-some-routes" else min(int(fault.dose), layers)


def wrap_backend(fault: Fault, inner: Backend, *, layers: int, of: int) -> Backend:
    """Return the backend with this fault in `layers` of the model's `of` layers."""
    match fault.name:
        case "guard-fires":
            return NonFiniteLogit(inner, int(fault.dose))
        case "dense-dispatch" | "dense-on-some-routes":
            return DenseDispatch(inner, layers)
        case "routing-depends-on-cache":
            return RoutingDependsOnCache(inner, of - layers)
        case "weights-not-renormalised":
            return WeightsNotRenormalised(inner, of - layers)
        case "router-top-k-off":
            return RouterTopKOff(inner, of - layers)
        case "router-collapsed":
            return RouterCollapsed(inner, fault.dose)
        case name if name in _OF_LOGITS:
            return MisstatedLogits(inner, fault)
        case "thread-race":
            return ThreadRace(inner, fault.dose)
        case "sums-reordered":
            return SumsReordered(inner, fault.dose)
        case _:
            raise CannotPlant(f"{fault}: not a fault of the backend")


def _router_scores(inner: Backend, layer: int, x: Array) -> np.ndarray:
    """Router logits (T, E) less the largest of each token, as NumPy."""
    scores = inner.project(x, f"blk.{layer}.ffn_gate_inp.weight")
    scores = scores.get() if hasattr(scores, "get") else scores  # CuPy to NumPy
    lowered: np.ndarray = scores - scores.max(axis=-1, keepdims=True)
    return lowered


def _shares(scores: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Softmax of the scores (T, E) over the chosen experts (T, K)."""
    kept = np.take_along_axis(scores, chosen, axis=-1)
    kept = np.exp(kept - kept.max(axis=-1, keepdims=True))
    shares: np.ndarray = kept / kept.sum(axis=-1, keepdims=True)
    return shares
