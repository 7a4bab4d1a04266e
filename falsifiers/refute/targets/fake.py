"""A simulated engine that keeps every promise: the known-good control, and a stand-in for tests.

It has no model file and shares no code with the runtime. Its clock is virtual, so its rates are exact but
for a seeded noise. Letters: T new tokens, V vocabulary.
"""

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from refute.faults.base import Fault
from refute.faults.cache import Cache
from refute.faults.planted import HEALTHY, Planted, prepare
from refute.targets.base import (
    CAPABILITIES,
    CannotPlant,
    Clock,
    Counters,
    Footprint,
    Generation,
    Identity,
    Peak,
    Reference,
    Refusal,
    Request,
    Routing,
    Sampling,
    Session,
    TargetError,
)
from refute.targets.fake_model import (
    CONTEXT,
    END,
    EXPERTS,
    EXPERTS_PER_TOKEN,
    KV_HEADS,
    LAYERS,
    VOCABULARY,
    FakeCache,
    chat,
    forward,
    logits_of,
    misroute,
    mix,
    recalling,
    route,
)
from refute.targets.fake_session import FakeReference, FakeSession

if TYPE_CHECKING:
    from refute.contract import Bound


_MIB = 2**20
_ROW_BYTES = 8192  # of keys and values, as simulated memory counts them


@dataclass(slots=True)
class VirtualClock:
    """Nanoseconds that pass only when work is done."""

    now_ns: int = 1_000_000_000

    def read(self) -> int:
        return self.now_ns


class _Work:
    """What one generation did: counters, and the time that it took on the virtual clock."""

    def __init__(self, target: "FakeTarget", clock: VirtualClock, noise: random.Random) -> None:
        self._target = target
        self._clock = clock
        self._noise = noise
        self._pace = noise.lognormvariate(0.0, target.noise / 2)
        self.counters = Counters()

    def forward(self, count: int, read: int, dense_layers: int) -> None:
        target, done = self._target, self.counters
        seconds = (1 + (count - 1) / target.prefill_speedup) / target.rate
        seconds *= self._pace * self._noise.lognormvariate(0.0, target.noise)
        self._clock.now_ns += round(seconds * 1e9)
        moe_layers = 0 if target.dense else LAYERS - dense_layers
        self.counters = Counters(
            forwards=done.forwards + 1,
            moe_layers=done.moe_layers + moe_layers,
            dense_layers=done.dense_layers + LAYERS - moe_layers,
            experts_run=done.experts_run + count * moe_layers * EXPERTS_PER_TOKEN,
            cache_positions_read=done.cache_positions_read + read,
        )


class FakeTarget:
    """An honest engine, or one that is as slow or as limited as the arguments say.

    rate: decode tokens per second. prefill_speedup: how much cheaper a further token of the same
    forward is. noise: log-normal sigma of a forward's time. capabilities: what it promises, all
    by default. dense: no MoE layer, hence no routing.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        rate: float = 100.0,
        prefill_speedup: float = 10.0,
        noise: float = 0.02,
        capabilities: frozenset[str] = CAPABILITIES,
        dense: bool = False,
    ) -> None:
        self.rate = rate
        self.prefill_speedup = prefill_speedup
        self.noise = noise
        self.dense = dense
        self._capabilities = capabilities - {"routing"} if dense else capabilities
        self._random = random.Random(seed)  # noqa: S311  (noise, and entropy where no seed is asked for)
        self._clock = VirtualClock()
        self._planted = HEALTHY

    @property
    def identity(self) -> Identity:
        return Identity(
            name="fake",
            engine="refute-fake",
            engine_version="1",
            engine_digest="",
            model_path=None,
            model_name="fake",
            model_sha256=None,
            architecture="fake" if self.dense else "fakemoe",
            layers=LAYERS,
            moe_layers=0 if self.dense else LAYERS,
            dense_layers=LAYERS if self.dense else 0,
            vocabulary=VOCABULARY,
            context=CONTEXT,
            simulated=True,
            settings={"rate": self.rate, "prefill_speedup": self.prefill_speedup, "noise": self.noise},
        )

    @property
    def capabilities(self) -> frozenset[str]:
        return self._capabilities

    @property
    def ordinary_tokens(self) -> Sequence[int]:
        return range(END)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        return self.encode(chat(messages))

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(token for token in tokens if token != END).decode(errors="replace")

    def generate(self, request: Request) -> Generation:
        """Run one request; raises `TargetError` for one that it cannot serve."""
        request = self._planted.admitted(request, CONTEXT)
        self._check(request)
        clock: Clock = self._clock.read
        if self._planted.clock is not None:
            clock = self._planted.clock.clock(clock, self._with(HEALTHY).generate, request)
        if self._planted.has("cache-ignored"):
            request = replace(request, cache=False)
        return self._run(request, self._planted.sampling(request.sampling), clock)

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """Raw logits (len(tokens), V) float32 of the honest engine."""
        cache = FakeCache()
        states, _ = forward(tokens, cache)
        return recalling(logits_of(states), cache)

    def session(self, capacity: int, *, prompt: int, cache: bool = True) -> Session:
        """Open a sequence; raises `TargetError` for one longer than the context."""
        if not 1 <= capacity <= CONTEXT:
            raise TargetError(f"a sequence of {capacity} tokens: expected 1 to {CONTEXT}, the context")
        rows: Cache = FakeCache()
        if cache and self._planted.cache is not None:
            rows = self._planted.cache(rows, prompt)
        return FakeSession(rows, self._planted, cached=cache, routed="routing" in self.capabilities)

    @property
    def reference(self) -> Reference:
        return FakeReference()

    def footprint(self, request: Request) -> Footprint:
        """Of a model of 64 MiB."""
        rows = len(request.prompt) + request.max_tokens
        return Footprint(weights=64 * _MIB, cache=rows * _ROW_BYTES, workspace=4 * _MIB)

    def resident(self) -> int:
        """What an honest engine holds, within a few KiB, and the caches that a fault keeps."""
        hoard = self._planted.hoard
        kept = 0 if hoard is None else sum(cache.length for cache in hoard.caches) * _ROW_BYTES
        return 80 * _MIB + kept + 1024 * self._random.randrange(8)

    def fresh_peak(self, request: Request) -> Peak:
        """What serving takes: all that is needed, within a few percent, and what a fault adds."""
        needed, hoard = self.footprint(request), self._planted.hoard
        least = needed.weights + needed.cache
        held = least + (0 if hoard is None else hoard.excess(needed))
        peak = held + round(needed.workspace * self._random.uniform(0.2, 0.9))
        before, file = 20 * _MIB, 8 * _MIB
        return Peak(before, before + held, file, before + file + peak)

    @contextmanager
    def plant(self, fault: Fault, bound: "Bound | None" = None) -> Iterator["FakeTarget"]:
        """Give a target with this fault; it shares the clock and the noise."""
        if self._planted is not HEALTHY or "plant" not in self.capabilities:
            raise CannotPlant(f"{fault}: this target takes no fault")
        yield self._with(
            prepare(
                fault,
                bound,
                layers=LAYERS,
                kv_heads=KV_HEADS,
                experts=0 if self.dense else EXPERTS,
                experts_per_token=EXPERTS_PER_TOKEN,
            )
        )

    def _with(self, planted: Planted) -> "FakeTarget":
        other = copy.copy(self)
        other._planted = planted  # noqa: SLF001  (our own copy)
        return other

    def _check(self, request: Request) -> None:
        if not request.prompt:
            raise Refusal("the prompt is empty; expected at least one token")
        unknown = [token for token in request.prompt if not 0 <= token < VOCABULARY]
        if unknown:
            raise Refusal(f"token {unknown[0]} is not in the vocabulary of {VOCABULARY}")
        if len(request.prompt) + request.max_tokens > CONTEXT:
            raise Refusal(
                f"{len(request.prompt)} prompt tokens and {request.max_tokens} new ones "
                f"exceed the context of {CONTEXT}"
            )

    def _run(self, request: Request, sampling: Sampling, clock: Clock) -> Generation:
        work = _Work(self, self._clock, self._random)
        draw = random.Random(self._random.getrandbits(64) if sampling.seed is None else sampling.seed)  # noqa: S311
        cache: Cache = FakeCache()
        if self._planted.cache is not None and request.cache:
            cache = self._planted.cache(cache, len(request.prompt))
        dense_layers = self._planted.layers if self._planted.has("dense-dispatch") else 0
        misrouted = self._planted.layers if self._planted.has("routing-depends-on-cache") else 0

        started = clock()
        history = list(request.prompt)
        tokens: list[int] = []
        times: list[int] = []
        margins: list[float] = []
        chosen: list[tuple[tuple[int, ...], ...]] = []
        gaps: list[tuple[float, ...]] = []
        pieces = _pieces(request.prompt, request.chunks)
        prefilled = started
        while len(tokens) < request.max_tokens:
            if not request.cache:
                cache, pieces = FakeCache(), [tuple(history)]
            for piece in pieces:
                states, read = forward(piece, cache)
                if dense_layers:
                    states = mix(states)  # other weights, other logits
                experts, _, gap = route(states)
                if misrouted and request.cache and len(piece) == 1:
                    experts = misroute(experts, misrouted)
                    states = mix(states)
                work.forward(len(piece), read, dense_layers)
            if not tokens:
                prefilled = clock()
            logits = recalling(logits_of(states[-1:]), cache)[0]
            best = np.sort(logits)[-2:]
            token = _sample(logits.astype(np.float64), history, sampling, draw)
            tokens.append(token)
            history.append(token)
            times.append(clock())
            margins.append(float(best[1] - best[0]))
            chosen.append(tuple(tuple(sorted(int(e) for e in layer)) for layer in experts[-1]))
            gaps.append(tuple(float(g) for g in gap[-1]))
            pieces = [(token,)]
            if request.stop and token == END:
                break
        return Generation(
            tokens=tuple(tokens),
            started_ns=started,
            prefilled_ns=prefilled,
            token_ns=tuple(times),
            counters=work.counters if "counters" in self.capabilities else Counters(),
            margins=tuple(margins) if request.margins and "margins" in self.capabilities else None,
            routing=Routing(tuple(chosen), tuple(gaps))
            if request.routing and "routing" in self.capabilities
            else None,
            text=self.decode(tokens),
        )


def _pieces(prompt: Sequence[int], chunks: Sequence[int]) -> list[tuple[int, ...]]:
    """Cut a prompt into chunks of these sizes, the last size repeated."""
    if any(size < 1 for size in chunks):
        raise TargetError(f"chunk sizes must be at least 1, found {tuple(chunks)}")
    pieces, start, sizes = [], 0, list(chunks) or [len(prompt)]
    while start < len(prompt):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        pieces.append(tuple(prompt[start : start + size]))
        start += size
    return pieces


def _sample(logits: np.ndarray, history: Sequence[int], sampling: Sampling, draw: random.Random) -> int:
    """Choose a token as `Sampling` says; logits (V,) float64 are changed in place."""
    seen = np.unique(np.asarray(history))
    penalty = sampling.repetition_penalty
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
