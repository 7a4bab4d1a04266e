"""The bundled runtime as a target. It is the only module that imports `refute_runtime`, and does so late."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

import refute
from refute.faults.backend import wrap_backend
from refute.faults.base import Fault
from refute.faults.planted import HEALTHY, Planted, prepare
from refute.targets import fresh, resident
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
    Scores,
    Session,
    TargetError,
)

if TYPE_CHECKING:
    import numpy as np

    from refute.contract import Bound
    from refute_runtime.backends.base import Cache
    from refute_runtime.engine import Engine, Token

_FRESH_SECONDS = 600.0  # a large model has to be read from its disk


class BundledTarget:
    """A model file, run by the bundled runtime.

    model_sha256: the file's digest, or what computes it; None where nobody knows. clock: monotonic
    nanoseconds. Raises `TargetError` for a file or a device that does not work.
    """

    def __init__(
        self,
        path: Path | str,
        backend: str = "array",
        device: str = "auto",
        *,
        model_sha256: str | Callable[[Path], str] | None = None,
        clock: Clock = time.perf_counter_ns,
    ) -> None:
        from refute_runtime.engine import Engine  # noqa: PLC0415  (heavy)

        self._path, self._backend, self._device = Path(path), backend, device
        with _failures():
            self._engine = Engine.load(self._path, backend, device)
        self._sha256 = model_sha256(self._path) if callable(model_sha256) else model_sha256
        self._clock = clock
        self._fault = HEALTHY
        # a GPU's memory is not the process's
        self._reads_memory = self._engine.backend.device == "cpu" and resident.readable()

    def close(self) -> None:
        """Unmap the model file."""
        self._engine.close()

    @property
    def identity(self) -> Identity:
        engine = self._engine
        config = engine.config
        moe_layers = sum(engine.backend.routed(layer) for layer in range(config.layers))
        return Identity(
            name="bundled",
            engine="refute_runtime",
            engine_version=refute.__version__,
            engine_digest=engine.digest,
            model_path=str(self._path),
            model_name=config.name,
            model_sha256=self._sha256,
            architecture=config.architecture,
            layers=config.layers,
            moe_layers=moe_layers,
            dense_layers=config.layers - moe_layers,
            vocabulary=config.vocabulary,
            context=config.context,
            settings=self._settings(),
        )

    @property
    def capabilities(self) -> frozenset[str]:
        lacking = set() if self._engine.config.moe else {"routing"}
        if not isinstance(self._engine.file.metadata.get("tokenizer.chat_template"), str):
            lacking.add("chat")
        if not self._reads_memory:
            lacking.add("memory")
        return CAPABILITIES - {"reference"} - lacking

    @property
    def ordinary_tokens(self) -> Sequence[int]:
        return self._engine.tokenizer.ordinary_ids

    def encode(self, text: str) -> tuple[int, ...]:
        with _failures():
            return tuple(self._engine.tokenizer.encode(text))

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """Encode messages with the file's own template, up to where the answer begins."""
        with _failures():
            return tuple(self._engine.template.encode(messages))

    def decode(self, tokens: Sequence[int]) -> str:
        with _failures():
            return self._engine.tokenizer.decode(list(tokens))

    def generate(self, request: Request) -> Generation:
        """Run one request; raises `TargetError` for one that the engine refuses or fails at."""
        with _failures():
            if self._fault.clock is None:
                return self._run(request, self._fault, self._clock)
            clock = self._fault.clock.clock(
                self._clock, lambda honest: self._run(honest, HEALTHY, self._clock), request
            )
            return self._run(request, self._fault, clock)

    def logits(self, tokens: Sequence[int]) -> "np.ndarray":
        """Raw logits (len(tokens), vocabulary) float32, by one prefill in one chunk, without faults."""
        vocabulary = self._engine.config.vocabulary
        unknown = [token for token in tokens if not 0 <= token < vocabulary]
        if unknown or not tokens:
            found = unknown[0] if unknown else "none"
            raise TargetError(f"expected one or more token ids below {vocabulary}, found {found}")
        with _failures():
            cache = self._engine.new_cache(len(tokens))
            return self._engine.model.forward(tokens, cache, last_only=False).logits

    def session(self, capacity: int, *, prompt: int, cache: bool = True) -> Session:
        """Open a sequence; raises `TargetError` for one longer than the context."""
        context = self._engine.config.context
        if not 1 <= capacity <= context:
            raise TargetError(f"a sequence of {capacity} tokens: expected 1 to {context}, the context")
        with _failures():
            rows = self._engine.new_cache(capacity)
        if cache and self._fault.cache is not None:
            rows = self._fault.cache(rows, prompt)
        return BundledSession(self._engine_for(self._fault, cache=cache), rows)

    @property
    def reference(self) -> Reference:
        raise TargetError("this target has no reference")

    def footprint(self, request: Request) -> Footprint:
        """Weights and workspace as the backend says it keeps them, rows of the cache by their size."""
        engine = self._engine
        rows = len(request.prompt) + request.max_tokens
        config = engine.config
        per_row = 2 * config.layers * config.kv_heads * config.head_dim * 4  # keys and values, float32
        weights, workspace = engine.backend.memory(len(request.prompt), rows)
        return Footprint(weights, per_row * rows, workspace)

    def resident(self) -> int:
        """Anonymous memory of this process."""
        return resident.held()

    def fresh_peak(self, request: Request) -> Peak:
        """Measure this file, backend, device and fault in a new process."""
        return fresh.measure(
            self._path, self._backend, self._device, request, self._fault.fault, seconds=_FRESH_SECONDS
        )

    @contextmanager
    def plant(self, fault: Fault, bound: "Bound | None" = None) -> Iterator["BundledTarget"]:
        """Give a target of the same engine with this fault; this one stays as it is."""
        if self._fault is not HEALTHY:
            raise CannotPlant(f"{fault}: this target has {self._fault.fault} already")
        config = self._engine.config
        planted = prepare(
            fault,
            bound,
            layers=config.layers,
            kv_heads=config.kv_heads,
            experts=config.experts,
            experts_per_token=config.experts_per_token,
        )
        faulty = object.__new__(type(self))
        faulty.__dict__ |= self.__dict__ | {"_fault": planted}
        yield faulty

    def _run(self, request: Request, planted: Planted, clock: Clock) -> Generation:
        from refute_runtime.errors import RuntimeFailure  # noqa: PLC0415  (heavy)
        from refute_runtime.sampling import SamplingParams  # noqa: PLC0415  (heavy)

        request = planted.admitted(request, self._engine.config.context)
        cached = request.cache and not planted.has("cache-ignored")
        engine, cache = self._engine_for(planted, cache=request.cache), None
        if cached and planted.cache is not None:  # else the engine makes one, once it has checked the request
            cache = engine.new_cache(len(request.prompt) + request.max_tokens)
            cache = planted.cache(cache, len(request.prompt))
        excess = 0 if planted.hoard is None else planted.hoard.excess(self.footprint(request))
        held = b"\1" * excess  # written, so that it is resident
        params = SamplingParams(**asdict(planted.sampling(request.sampling)))
        started = clock()
        try:  # the engine checks a request when it is asked, and computes when it is asked for tokens
            stream = engine.generate(
                request.prompt,
                params,
                max_tokens=request.max_tokens,
                cache=cache,
                chunks=request.chunks if cached else (),
                twin=not cached,
                stop=request.stop,
                routing=request.routing and "routing" in self.capabilities,
                clock=clock,
            )
        except RuntimeFailure as error:
            raise Refusal(str(error)) from error
        tokens = list(stream)
        del held
        return _generation(request, started, tokens)

    def _engine_for(self, planted: Planted, *, cache: bool) -> "Engine":
        """The engine of one arm: a wrapped backend only where the fault reaches it."""
        if not planted.layers or planted.fault is None:
            return self._engine
        if planted.has("routing-depends-on-cache") and not cache:
            return self._engine
        layers = self._engine.config.layers
        backend = wrap_backend(planted.fault, self._engine.backend, layers=planted.layers, of=layers)
        return self._engine.with_backend(backend)

    def _settings(self) -> dict[str, object]:
        import numpy as np  # noqa: PLC0415  (heavy)

        engine = self._engine
        template = engine.file.metadata.get("tokenizer.chat_template")
        blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
        return {
            **engine.settings,
            "numpy": np.__version__,
            "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
            "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest()
            if isinstance(template, str)
            else None,
            "tokenizer_nfc": engine.tokenizer.nfc,
        }


class BundledSession:
    """One sequence in the bundled runtime."""

    def __init__(self, engine: "Engine", cache: "Cache") -> None:
        self._engine = engine
        self._cache = cache

    @property
    def length(self) -> int:
        return self._cache.length

    def extend(self, tokens: Sequence[int], *, routing: bool = False) -> Scores:
        """Run tokens in one forward; raises `TargetError` for none, or for more than fit."""
        import numpy as np  # noqa: PLC0415  (heavy)

        if not tokens:
            raise TargetError("a forward of no tokens; expected one or more")
        with _failures():
            forward = self._engine.model.forward(tokens, self._cache, last_only=False, routing=routing)
        if forward.routing is None or not self._engine.config.moe:
            return Scores(forward.logits)
        return Scores(
            forward.logits,
            np.stack([layer.experts for layer in forward.routing], axis=1),
            np.stack([layer.weights for layer in forward.routing], axis=1),
            np.stack([layer.gap for layer in forward.routing], axis=1),
        )

    def fork(self) -> "BundledSession":
        return BundledSession(self._engine, self._cache.fork())

    def trim(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise TargetError(f"cannot trim a sequence of {self.length} tokens to {length}")
        self._cache.truncate(length)


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what the runtime raises for bad input into the target's own error, with the same sentence."""
    from refute_runtime.errors import RuntimeFailure  # noqa: PLC0415

    try:
        yield
    except RuntimeFailure as error:
        raise TargetError(str(error)) from error


def _generation(request: Request, started: int, tokens: Sequence["Token"]) -> Generation:
    done = reduce(add, (token.counters for token in tokens))
    decided = [token.routing for token in tokens if token.routing is not None]
    routing = Routing(tuple(r.experts for r in decided), tuple(r.gaps for r in decided))
    return Generation(
        tokens=tuple(token.id for token in tokens),
        started_ns=started,
        prefilled_ns=tokens[0].prefilled_ns,
        token_ns=tuple(token.time_ns for token in tokens),
        counters=Counters(**asdict(done)),
        margins=tuple(token.margin for token in tokens) if request.margins else None,
        routing=routing if decided else None,
        text="".join(token.text for token in tokens),
    )
