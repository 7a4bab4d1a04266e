"""The bundled runtime as a target. It and `bundled_session` import `refute_runtime`, and do so late."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import refute
from refute.faults.backend import wrap_backend
from refute.faults.base import Fault
from refute.faults.planted import HEALTHY, Planted, is_of_model, is_of_wire, prepare
from refute.mutate import mutant_of
from refute.targets import fresh, resident
from refute.targets.base import (
    CAPABILITIES,
    CannotPlant,
    Clock,
    Footprint,
    Generation,
    Identity,
    Peak,
    Request,
    TargetError,
)
from refute.targets.bundled_request import run
from refute.targets.bundled_server import beside, serves, within
from refute.targets.bundled_session import (
    BundledSession,
    engine_with,
    failures,
    settings_of,
)
from refute.targets.references import reference_of
from refute.targets.routes import GENERATE, SESSION, SESSION_TWIN, entry_points, route_of
from refute.targets.scores import Reference, Session, TokenVectors
from refute.targets.served import Served
from refute.targets.token_vectors import read_vectors
from refute.wire.endpoint import Endpoint

if TYPE_CHECKING:
    import numpy as np

    from refute.contract import Bound
    from refute_runtime.engine import Engine

_FRESH_SECONDS = 600.0  # a large model has to be read from its disk


class BundledTarget:
    """A model file, run by the bundled runtime.

    backend, device, mmap, processes, progress: as `Engine.load` takes them. model_sha256: the file's digest,
    or what computes it; None where nobody knows. clock: monotonic nanoseconds.
    Raises `TargetError` for a file or a device that does not work.
    """

    def __init__(
        self,
        path: Path | str,
        backend: str = "auto",
        device: str = "auto",
        *,
        mmap: bool | None = None,
        processes: int = 1,
        model_sha256: str | Callable[[Path], str] | None = None,
        clock: Clock = time.perf_counter_ns,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        from refute_runtime.engine import Engine  # noqa: PLC0415  (heavy)

        self._path = Path(path)
        with failures():
            self._engine = Engine.load(
                self._path, backend, device, mmap=mmap, processes=processes, progress=progress
            )
        backend = self._engine.backend.name  # what was chosen is what every other engine of this target has
        self._how: dict[str, Any] = {"backend": backend, "device": device, "mmap": mmap}
        self._load: Callable[[Path], Engine] = partial(
            Engine.load, backend=backend, device=device, mmap=mmap, processes=processes
        )
        self._unchanged = self._engine  # of the file itself, also where a fault has changed a copy
        self._sha256 = model_sha256(self._path) if callable(model_sha256) else model_sha256
        self._clock = clock
        self._fault = HEALTHY
        # of the file as it is named here: a copy that is planted in keeps it, whatever it runs
        self._reference = reference_of(self._path, backend, self._sha256)
        # a GPU's memory is not the process's
        self._reads_memory = self._engine.backend.device == "cpu" and resident.readable()
        self._served = Served(lambda: beside(self._path, self._how, clock))

    @property
    def notes(self) -> Sequence[str]:
        """What computes here, and what stands in the way of computing faster: to be told once."""
        settings = self._engine.settings
        more = ", ".join(str(settings[name]) for name in ("path", "threading_layer") if name in settings)
        computes = (
            f"computes on {settings['backend']} ({settings['numerics']}{more and ', ' + more}), "
            f"threads {settings['threads']}, weights {settings['weights']}"
        )
        return (computes, *self._engine.notes)

    def close(self) -> None:
        """Stop the server, where one was started, and unmap the model file."""
        self._served.close()
        self._engine.close()

    @property
    def identity(self) -> Identity:
        engine = self._engine
        config = engine.config
        # Of the file, not of what the backend would do: that is what dispatch is held to.
        routers = [f"blk.{layer}.ffn_gate_inp.weight" for layer in range(config.layers)]
        moe_layers = sum(name in engine.file.tensors for name in routers)
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
            experts=config.experts if moe_layers else 0,
            vocabulary=config.vocabulary,
            context=config.context,
            settings=settings_of(engine),
        )

    @property
    def capabilities(self) -> frozenset[str]:
        has = {
            "routing": self._engine.config.moe,
            "reference": self._reference is not None,
            "f32": self._engine.backend.numerics == "f32",
            "threads": self._engine.backend.device == "cpu",  # those of the host compute nothing elsewhere
            "bitwise": self._engine.backend.bitwise,
            "memory": self._reads_memory,
            "chat": isinstance(self._engine.file.metadata.get("tokenizer.chat_template"), str),
            "token_reference": self._vectors is not None,
            **{name: name in self._http for name in CAPABILITIES if name.startswith("http")},
        }
        return CAPABILITIES - {name for name, there in has.items() if not there}

    @property
    def entry_points(self) -> Sequence[str]:
        return entry_points(self.capabilities)

    @property
    def ordinary_tokens(self) -> Sequence[int]:
        return self._engine.tokenizer.ordinary_ids

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return self._engine.tokenizer.specials

    def encode(self, text: str) -> tuple[int, ...]:
        with failures():
            return tuple(self._engine.tokenizer.encode(text))

    def encode_chat(self, messages: Sequence[Mapping[str, object]]) -> tuple[int, ...]:
        with failures():
            return tuple(self._engine.template.encode(messages))

    def decode(self, tokens: Sequence[int]) -> str:
        with failures():
            return self._engine.tokenizer.decode(list(tokens))

    def stream_decode(self, tokens: Sequence[int]) -> Sequence[str]:
        with failures():
            stream = self._engine.tokenizer.stream()
            return [*map(stream.push, tokens), stream.flush()]

    def generate(self, request: Request) -> Generation:
        """Run one request; raises `TargetError` for one that the engine refuses or fails at."""
        with failures():
            if request.messages:
                request = replace(request, prompt=self._chat_prompt(request))
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
        with failures():
            cache = self._unchanged.new_cache(len(tokens))
            return self._unchanged.model.forward(tokens, cache, last_only=False).logits

    def session(
        self, capacity: int, *, prompt: int, cache: bool = True, threads: int | None = None
    ) -> Session:
        """Open a sequence; raises `TargetError` for one longer than the context, or for no thread."""
        context = self._engine.config.context
        if not 1 <= capacity <= context:
            raise TargetError(f"a sequence of {capacity} tokens: expected 1 to {context}, the context")
        with failures():
            rows = self._engine.new_cache(capacity)
            route = SESSION if cache else SESSION_TWIN
            engine = self._engine_for(self._fault, route, cache=cache, threads=threads)
        if cache and self._fault.cache is not None:
            rows = self._fault.cache(rows, prompt)
        return BundledSession(engine, rows, self._fault)

    @property
    def reference(self) -> Reference:
        if self._reference is None:
            raise TargetError("this model on this backend has no reference; it lacks that capability")
        return self._reference

    @property
    def token_reference(self) -> TokenVectors:
        """Ids from llama.cpp, where such a file lies beside the model; else raises `TargetError`."""
        if isinstance(self._vectors, TargetError):
            raise self._vectors
        if self._vectors is None:
            raise TargetError(f"no token vectors of {self._path.name} beside it")
        return self._vectors

    @cached_property
    def _http(self) -> frozenset[str]:
        return serves(self._engine)

    @property
    def endpoint(self) -> Endpoint:
        """A server of this model: in a process of its own, or around a planted engine in this one."""
        if "http" not in self._http:
            raise TargetError("serving needs starlette and uvicorn: pip install 'refute[serve]'")
        return self._served.endpoint

    @cached_property
    def _vectors(self) -> TokenVectors | TargetError | None:
        """A file that cannot be read is kept as such, so that the claim which needs it says what is wrong."""
        try:
            return read_vectors(self._path, self._sha256)
        except TargetError as error:
            return error

    def footprint(self, request: Request) -> Footprint:
        """Weights and workspace as the backend says it keeps them, rows of the cache by their size."""
        engine = self._engine
        rows = len(request.prompt) + request.max_tokens
        weights, workspace = engine.backend.memory(len(request.prompt), rows)
        return Footprint(weights, engine.backend.cache_row_bytes * rows, workspace)

    def resident(self) -> int:
        """Anonymous memory of this process."""
        return resident.held()

    def fresh_peak(self, request: Request) -> Peak:
        """Measure this file, backend, device and fault in a new process."""
        return fresh.measure(self._path, self._how, request, self._fault.fault, seconds=_FRESH_SECONDS)

    @contextmanager
    def plant(self, fault: Fault, bound: "Bound | None" = None) -> Iterator["BundledTarget"]:
        """Give a target of the same engine with this fault; this one stays as it is."""
        if self._fault is not HEALTHY:
            raise CannotPlant(f"{fault}: this target has {self._fault.fault} already")
        if is_of_wire(fault):
            from refute.faults import wire  # noqa: PLC0415 (only who asks over HTTP needs it)

            with wire.planted(self.endpoint, fault, bound) as endpoint:
                yield self._with(_fault=Planted(fault), _served=Served(lambda: nullcontext(endpoint)))
            return
        if is_of_model(fault):
            with mutant_of(self._path, fault) as copy:
                with failures():
                    engine = self._load(copy)
                with engine, self._serving(Planted(fault), engine) as faulty:
                    yield faulty
            return
        config = self._engine.config
        planted = prepare(
            fault,
            bound,
            layers=config.layers,
            kv_heads=config.kv_heads,
            experts=config.experts,
            experts_per_token=config.experts_per_token,
        )
        with self._serving(planted, engine_with(self._engine, fault)) as faulty:
            yield faulty

    @contextmanager
    def _serving(self, planted: Planted, engine: "Engine") -> Iterator["BundledTarget"]:
        """Give a target on this engine; its server, if it is asked for one, ends with the context."""
        faulty = self._with(_fault=planted, _engine=engine)
        engines = partial(faulty._engine_for, planted, GENERATE, cache=True)  # noqa: SLF001 (our own copy)
        served = Served(lambda: within(self._path, engine, engines, planted, self._clock))
        faulty._served = served  # noqa: SLF001
        with closing(served):
            yield faulty

    def _with(self, **changed: object) -> "BundledTarget":
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__ | changed
        return other

    def _run(self, request: Request, planted: Planted, clock: Clock) -> Generation:
        request = planted.admitted(request, self._engine.config.context)
        engine = self._engine_for(planted, route_of(request), cache=request.cache)
        excess = 0 if planted.hoard is None else planted.hoard.excess(self.footprint(request))
        routing = request.routing and "routing" in self.capabilities
        return run(engine, replace(request, routing=routing), planted, clock, excess=excess)

    def _chat_prompt(self, request: Request) -> tuple[int, ...]:
        if request.prompt:
            raise TargetError("a request has a prompt or messages, found both")
        return self.encode_chat([{"role": role, "content": content} for role, content in request.messages])

    def _engine_for(
        self, planted: Planted, route: str, *, cache: bool, threads: int | None = None
    ) -> "Engine":
        """The engine of one entry point and arm: a wrapped backend only where the fault reaches it."""
        engine = self._engine if threads is None else self._engine.with_threads(threads)
        if not planted.reaches(route, self.entry_points) or planted.fault is None:
            return engine
        if planted.has("routing-depends-on-cache") and not cache:
            return engine
        layers = engine.config.layers
        backend = wrap_backend(planted.fault, engine.backend, layers=planted.layers, of=layers)
        return engine.with_backend(backend)
