"""A simulated engine that keeps every promise: the known-good control, and a stand-in for tests.

It has no model file and shares no code with the runtime. Its clock is virtual, so its rates are exact but
for a seeded noise. Letters: T new tokens, V vocabulary.
"""

import copy
import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from refute.faults.backend import misstate
from refute.faults.base import Fault
from refute.faults.cache import Cache
from refute.faults.planted import HEALTHY, Planted, is_of_model, is_of_wire, prepare
from refute.targets.base import (
    CAPABILITIES,
    CannotPlant,
    Clock,
    Footprint,
    Generation,
    Identity,
    Peak,
    Refusal,
    Request,
    Sampling,
    TargetError,
    cut,
)
from refute.targets.delivery import deliver
from refute.targets.fake_model import (
    CONTEXT,
    END,
    EXPERTS,
    EXPERTS_PER_TOKEN,
    KV_HEADS,
    LAYERS,
    VOCABULARY,
    FakeCache,
    forward,
    logits_of,
    recalling,
    sample,
)
from refute.targets.fake_mutant import mutant, mutant_logits
from refute.targets.fake_session import FakeReference, FakeSession, decide, dense_layers_of
from refute.targets.fake_tokenizer import FakeTokenizer, chat_segments, token_vectors, tokenizer_with
from refute.targets.fake_wire import Serving
from refute.targets.fake_work import Answer, VirtualClock, Work
from refute.targets.routes import SESSION, SESSION_TWIN, entry_points, route_of
from refute.targets.scores import Reference, Session, TokenVectors
from refute.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from refute.contract import Bound


_MIB = 2**20
_ROW_BYTES = 8192  # of keys and values, as simulated memory counts them


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
        self._tokenizer = tokenizer_with(None)
        self._serving = Serving(self._capabilities, dense=dense, seed=seed)

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
            experts=0 if self.dense else EXPERTS,
            vocabulary=VOCABULARY,
            context=CONTEXT,
            simulated=True,
            settings={
                "rate": self.rate,
                "prefill_speedup": self.prefill_speedup,
                "noise": self.noise,
                "tokenizer_nfc": self._tokenizer.nfc,
            },
        )

    @property
    def capabilities(self) -> frozenset[str]:
        return self._capabilities

    @property
    def entry_points(self) -> Sequence[str]:
        return entry_points(self.capabilities)

    @property
    def ordinary_tokens(self) -> Sequence[int]:
        return range(END)

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return FakeTokenizer.specials

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text))

    def encode_chat(self, messages: Sequence[Mapping[str, object]]) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode_segments(chat_segments(messages)))

    def decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(tokens)

    def stream_decode(self, tokens: Sequence[int]) -> Sequence[str]:
        stream = self._tokenizer.stream()
        return [*map(stream.push, tokens), stream.flush()]

    def generate(self, request: Request) -> Generation:
        """Run one request; raises `TargetError` for one that it cannot serve."""
        if request.messages:
            if request.prompt:
                raise TargetError("a request has a prompt or messages, found both")
            text = "".join(f"{role}: {content}\n" for role, content in request.messages)
            request = replace(request, prompt=self.encode(text))
        request = self._planted.admitted(request, CONTEXT)
        self._check(request)
        clock: Clock = self._clock.read
        if self._planted.clock is not None:
            clock = self._planted.clock.clock(clock, self._with(HEALTHY).generate, request)
        if request.cache and self._planted.cache_ignored():
            request = replace(request, cache=False)
        return self._run(request, self._planted.sampling(request.sampling), clock)

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """Raw logits (len(tokens), V) float32 of the honest engine."""
        cache = FakeCache()
        states, _ = forward(tokens, cache)
        return recalling(logits_of(states), cache)

    def session(
        self, capacity: int, *, prompt: int, cache: bool = True, threads: int | None = None
    ) -> Session:
        """Open a sequence; raises `TargetError` for one longer than the context, or for no thread."""
        if threads is not None and threads < 1:
            raise TargetError(f"threads is {threads}, expected a whole number of at least 1")
        if not 1 <= capacity <= CONTEXT:
            raise TargetError(f"a sequence of {capacity} tokens: expected 1 to {CONTEXT}, the context")
        rows: Cache = FakeCache()
        if cache and self._planted.cache is not None:
            rows = self._planted.cache(rows, prompt)
        return FakeSession(
            rows,
            self._planted,
            cached=cache,
            moe=not self.dense,
            routed="routing" in self.capabilities,
            reached=self._planted.reaches(SESSION if cache else SESSION_TWIN, self.entry_points),
            threads=threads or 1,
        )

    @property
    def reference(self) -> Reference:
        return FakeReference()

    @property
    def token_reference(self) -> TokenVectors:
        return token_vectors()

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

    @property
    def endpoint(self) -> Endpoint:
        """Where this engine answers over HTTP, as long as it, or a copy of it with a fault, is in use."""
        return self._serving.endpoint

    @contextmanager
    def plant(self, fault: Fault, bound: "Bound | None" = None) -> Iterator["FakeTarget"]:
        """Give a target with this fault; it shares the clock and the noise."""
        if self._planted is not HEALTHY or self._serving.behind_fault or "plant" not in self.capabilities:
            raise CannotPlant(f"{fault}: this target takes no fault")
        if is_of_model(fault):
            yield self._with(mutant(fault, dense=self.dense))
            return
        if is_of_wire(fault):
            with self._serving.behind(fault, bound) as serving:
                yield self._with(HEALTHY, serving)
            return
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

    def _with(self, planted: Planted, serving: Serving | None = None) -> "FakeTarget":
        other = copy.copy(self)
        other._planted = planted  # noqa: SLF001  (our own copy)
        other._tokenizer = tokenizer_with(planted.fault)  # noqa: SLF001
        other._serving = serving or self._serving.having(planted)  # noqa: SLF001
        return other

    def _work(self) -> Work:
        return Work(
            self._clock,
            self._random,
            rate=self.rate,
            prefill_speedup=self.prefill_speedup,
            noise=self.noise,
            dense=self.dense,
        )

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
        planted, done = self._planted, Answer(self._work(), clock())

        def opens(taken: Callable[[int], object] | None) -> Generator[int, None, None]:
            return self._steps(request, sampling, clock, done, taken)

        progress = None
        if request.delivery is None:
            tokens = list(opens(None))
        else:
            tokens, progress = deliver(
                planted.streamed(opens), request.delivery, lambda: done.work.counters.forwards
            )
        return done.generation(
            tokens,
            request,
            self.capabilities,
            uncounted=int(planted.dose) if planted.has("counters-stuck") else 0,
            text=self.decode(tokens),
            progress=progress,
        )

    def _steps(
        self,
        request: Request,
        sampling: Sampling,
        clock: Clock,
        done: Answer,
        taken: Callable[[int], object] | None,
    ) -> Generator[int, None, None]:
        """Compute tokens, each when it is asked for; a callback that returns False ends it."""
        planted, prompt = self._planted, len(request.prompt)
        draw = random.Random(self._random.getrandbits(64) if sampling.seed is None else sampling.seed)  # noqa: S311
        cache: Cache = FakeCache()
        if planted.cache is not None and request.cache:
            cache = planted.cache(cache, prompt)
        reached = planted.reaches(route_of(request), self.entry_points)
        dense_layers = dense_layers_of(planted, reached=reached)
        guarded = int(planted.dose) if planted.has("guard-fires") else 0

        history = list(request.prompt)
        pieces = cut(request.prompt, request.chunks)
        for index in range(request.max_tokens):
            if not request.cache:
                cache, pieces = FakeCache(), [tuple(history)]
            for piece in pieces:
                states, read = forward(piece, cache)
                decoding = request.cache and len(piece) == 1
                states, experts, _, gap = decide(states, planted, decoding=decoding, dense=dense_layers > 0)
                done.work.forward(len(piece), read, dense_layers, guards=int(guarded > 0))
                guarded -= 1
            if index == 0:
                done.prefilled_ns = clock()
            logits = mutant_logits(planted, states[-1:], experts[-1:])
            logits = misstate(planted.fault, recalling(logits, cache))[0]
            if not np.isfinite(logits).all():
                raise TargetError("a logit is not finite; expected numbers to choose a token by")
            best = np.sort(logits)[-2:]
            scores = logits.astype(np.float64)
            if planted.sampler is not None:
                scores = planted.sampler.logits(scores, history, prompt, request.sampling)
            token = sample(scores, history, sampling, draw)
            history.append(token)
            done.token_ns.append(clock())
            done.margins.append(float(best[1] - best[0]))
            done.experts.append(tuple(tuple(sorted(int(e) for e in layer)) for layer in experts[-1]))
            done.gaps.append(tuple(float(g) for g in gap[-1]))
            done.counters.append(done.work.counters)
            pieces = [(token,)]
            wanted = taken is None or taken(token) is not False
            yield token
            if not wanted or (request.stop and token == END):
                return
