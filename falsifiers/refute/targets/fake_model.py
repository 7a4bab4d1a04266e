"""The simulated model: what the simulated engine computes instead of a transformer.

Logits are a hash of the rows in the KV cache, so a lost, moved or exchanged row changes them. Letters: T new
tokens, R cache rows, G kv heads, V vocabulary.
"""

import copy
import functools
import random
import re
from collections.abc import Sequence

import numpy as np

from refute.faults.cache import Cache
from refute.targets.base import Sampling

VOCABULARY = 257
END = 256  # the one control token; 0..255 are bytes
LAYERS = 2
KV_HEADS = 2
EXPERTS = 8
EXPERTS_PER_TOKEN = 2
CONTEXT = 4096
PEAKEDNESS = 2.0  # scale of the Gumbel logits: the first token has a probability of about a half

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
_LAST_SHIFT = np.uint64(31)


def mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64 of uint64, element by element (the same shape)."""
    x = x + _GAMMA
    for shift, factor in _ROUNDS:
        x ^= x >> shift
        x *= factor
    x ^= x >> _LAST_SHIFT
    return x


def uniform(digests: np.ndarray, count: int, salt: int) -> np.ndarray:
    """Numbers in (0, 1) of each digest: (T,) uint64 -> (T, count) float64."""
    digests = mix(digests[:, None] ^ _lanes(count, salt << 32)) >> np.uint64(11)
    return (digests.astype(np.float64) + 0.5) / 2.0**53


@functools.cache
def _lanes(count: int, first: int) -> np.ndarray:
    """What tells the numbers of one digest apart: (count,) uint64; never changed."""
    return mix(np.arange(first, first + count, dtype=np.uint64))


_ANSWER = f"{chr(END)}\nassistant\n"  # as the simulated template ends
_SURE = 100.0  # logits; more than any noise
_DIGESTS = mix(np.arange(VOCABULARY, dtype=np.uint64))
_BY_DIGEST = np.argsort(_DIGESTS)
_SORTED = _DIGESTS[_BY_DIGEST]


class FakeCache:
    """Rows (R, G, 1) uint64 per layer."""

    def __init__(self) -> None:
        self.length = 0
        self.capacity = CONTEXT
        self._k = [np.zeros((0, KV_HEADS, 1), np.uint64) for _ in range(LAYERS)]
        self._v = [np.zeros((0, KV_HEADS, 1), np.uint64) for _ in range(LAYERS)]

    def fork(self) -> "FakeCache":
        return copy.deepcopy(self)

    def positions(self, count: int) -> np.ndarray:
        return np.arange(self.length, self.length + count)

    def append(self, layer: int, k: np.ndarray, v: np.ndarray) -> None:
        self._k[layer] = np.concatenate((self._k[layer][: self.length], k))
        self._v[layer] = np.concatenate((self._v[layer][: self.length], v))

    def rows(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        return self._k[layer], self._v[layer]

    def advance(self, count: int) -> None:
        self.length += count

    def truncate(self, length: int) -> None:
        self.length = min(self.length, length)


def forward(tokens: Sequence[int], cache: Cache) -> tuple[np.ndarray, int]:
    """States (T,) uint64 after the last layer, and how many rows were read of finished forwards."""
    count, old, read = len(tokens), cache.length, 0
    places = mix(_turns(cache.positions(count)))
    states = mix(np.asarray(tokens, np.uint64))
    said = np.broadcast_to(states[:, None, None], (count, KV_HEADS, 1))
    for layer in range(LAYERS):
        lanes = _lanes(KV_HEADS, layer * KV_HEADS)
        k = mix((states ^ places)[:, None] ^ lanes)[:, :, None]
        cache.append(layer, k, mix(k) if layer else said)  # what is recalled is read from the cache too
        k, v = cache.rows(layer)
        read += len(k) - count
        seen = mix(k ^ (v << np.uint64(1)))[:, :, 0].cumsum(axis=0, dtype=np.uint64)[-count:]  # (T, G)
        heads = mix(seen ^ lanes)
        states = mix(states ^ np.bitwise_xor.reduce(heads, axis=1))
    cache.advance(count)
    return states, max(read, 0) if old else 0


def _turns(positions: np.ndarray) -> np.ndarray:
    """What stands for a RoPE angle: (T,) uint64, the position itself where it is a whole number."""
    whole = np.floor(positions)
    part = ((positions - whole) * 2.0**31).astype(np.uint64)
    turns: np.ndarray = whole.astype(np.int64).astype(np.uint64) ^ (part << np.uint64(32))
    return turns


def logits_of(states: np.ndarray) -> np.ndarray:
    """(T,) -> (T, V) float32: Gumbel noise of the state, scaled."""
    gumbel: np.ndarray = -PEAKEDNESS * np.log(-np.log(uniform(states, VOCABULARY, 1)))
    return gumbel.astype(np.float32)


def recalling(logits: np.ndarray, cache: Cache) -> np.ndarray:
    """Logits (T, V) of the last T rows, raised for what a page in the cache says about what is asked."""
    read = cache.rows(0)[1][:, 0, 0]  # (R,)
    if not (read == _DIGESTS[END]).any():  # no page ends, so nothing is asked
        return logits
    places = np.minimum(np.searchsorted(_SORTED, read), VOCABULARY - 1)
    known = _SORTED[places] == read
    tokens = np.where(known, _BY_DIGEST[places], ord("?"))
    text = "".join(map(chr, tokens))
    begun = text.find(_ANSWER)
    if begun < 0:
        return logits
    logits = logits.copy()
    for row in range(len(logits)):
        seen = text[: len(text) - len(logits) + 1 + row]
        token = _recalled(seen) if len(seen) >= begun + len(_ANSWER) else None
        if token is not None:
            logits[row, token] += _SURE
    return logits


def _recalled(text: str) -> int | None:
    """The next token of the answer, where the text asks `What is KEY?` and says its value before."""
    page, _, said = text.rpartition(_ANSWER)
    asked = re.findall(r"What is (\w+)\?", page)
    told = re.search(rf"The code of {asked[-1]} is (\w+)\.", page) if asked else None
    if told is None or not told[1].startswith(said):
        return None
    return END if said == told[1] else ord(told[1][len(said)])


def route(states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Experts (T, layers, K) by descending probability, their shares; gaps (T, layers)."""
    weights = uniform(states, LAYERS * EXPERTS, 2).reshape(len(states), LAYERS, EXPERTS) ** 4
    weights /= weights.sum(axis=-1, keepdims=True)
    order = np.argsort(-weights, axis=-1, kind="stable")
    ranked = np.take_along_axis(weights, order, axis=-1)
    gaps = ranked[..., EXPERTS_PER_TOKEN - 1] - ranked[..., EXPERTS_PER_TOKEN]
    chosen = ranked[..., :EXPERTS_PER_TOKEN]
    return order[..., :EXPERTS_PER_TOKEN], chosen / chosen.sum(axis=-1, keepdims=True), gaps


def misroute(experts: np.ndarray, layers: int) -> np.ndarray:
    """In the last `layers`, replace the last expert chosen by another one."""
    first = max(LAYERS - layers, 0)
    wrong = experts.copy()
    other = (experts[:, first:, -1] + 1) % EXPERTS
    clash = (other[..., None] == experts[:, first:]).any(axis=-1)
    wrong[:, first:, -1] = np.where(clash, (other + 1) % EXPERTS, other)
    return wrong


def sample(logits: np.ndarray, history: Sequence[int], sampling: Sampling, draw: random.Random) -> int:
    """Choose a token as `Sampling` says; logits (V,) float64 are changed in place."""
    penalty = sampling.repetition_penalty
    if penalty != 1:
        seen = np.unique(np.asarray(history))
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
    if sampling.temperature == 0:
        return int(np.argmax(logits))
    logits /= sampling.temperature
    order = np.argsort(-logits, kind="stable")
    if sampling.top_k:
        order = order[: sampling.top_k]
    weights = np.exp(logits[order] - logits[order[0]])
    if sampling.top_p < 1:
        before = np.cumsum(weights) - weights
        kept = before < sampling.top_p * weights.sum()
        order, weights = order[kept], weights[kept]
    kept = weights >= sampling.min_p * weights[0]
    order, weights = order[kept], weights[kept]
    place = np.searchsorted(np.cumsum(weights), draw.random() * weights.sum(), side="right")
    return int(order[min(int(place), len(order) - 1)])
