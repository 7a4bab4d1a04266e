"""llama.cpp as a target, for development: an engine that shares no code with the bundled runtime.

Its faults are those of the model file, and over HTTP, where its Python bindings' own server answers, those of
the wire. It reports neither counters nor routing.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refute.faults.base import Fault
from refute.faults.planted import is_of_model, is_of_wire
from refute.mutate import mutant_of
from refute.targets.array_reference import ArrayReference
from refute.targets.base import (
    CannotPlant,
    Clock,
    Generation,
    Identity,
    Refusal,
    Request,
    TargetError,
    cut,
)
from refute.targets.llama_library import LlamaModel, LlamaSampler, LlamaSequence, library, library_digest
from refute.targets.llama_server import llama_server, serves
from refute.targets.partial import PartialTarget
from refute.targets.routes import entry_points
from refute.targets.scores import Reference, Scores, Stopped
from refute.targets.served import Served
from refute.targets.stopping import greedy, stopped
from refute.wire.dialects import LLAMA_CPP_PYTHON
from refute.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from refute.contract import Bound


_CAPABILITIES = frozenset(
    {
        "token_ids",
        "cache_off",
        "chunks",
        "margins",
        "logits",
        "seed",
        "plant",
        "timing",
        "sessions",
        "reference",
    }
)


class LlamaCppTarget(PartialTarget):
    """A model file, run by llama.cpp on the CPU.

    threads: half of the processors by default, as waiting threads spin and the host has more to do.
    Raises `TargetError` where llama-cpp-python is not installed or does not load the file.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        model_sha256: str | Callable[[Path], str] | None = None,
        threads: int | None = None,
        clock: Clock = time.perf_counter_ns,
    ) -> None:
        self._path = Path(path)
        self._threads = threads or max((os.cpu_count() or 1) // 2, 1)
        self._unchanged = self._model = LlamaModel(self._path, self._threads)
        self._sha256 = model_sha256(self._path) if callable(model_sha256) else model_sha256
        self._clock = clock
        self._fault: Fault | None = None
        self._reference = cache(lambda: _array_reference(self._path))  # shared by the targets with faults
        self._served = Served(lambda: self._server(self._path))

    def close(self) -> None:
        """Stop the server, where one was started."""
        self._served.close()

    @cached_property
    def identity(self) -> Identity:
        model = self._unchanged
        architecture = model.text("general.architecture")
        layers: int = model.llama.llama_model_n_layer(model.handle)
        experts = int(model.text(f"{architecture}.expert_count") or 0)
        return Identity(
            name="llama-cpp",
            engine="llama.cpp",
            engine_version=f"llama-cpp-python {library().__version__}",
            engine_digest=library_digest(),
            model_path=str(self._path),
            model_name=model.text("general.name"),
            model_sha256=self._sha256,
            architecture=architecture,
            layers=layers,
            moe_layers=layers if experts else 0,
            dense_layers=0 if experts else layers,
            experts=experts,
            vocabulary=model.vocabulary,
            context=model.llama.llama_model_n_ctx_train(model.handle),
            settings={
                "backend": "ggml",
                "device": "cpu",
                "numerics": "quantized activations, float32 cache",
                "threads": self._threads,
                "system": model.llama.llama_print_system_info().decode().strip(" |"),
            },
        )

    @property
    def capabilities(self) -> frozenset[str]:
        return _CAPABILITIES | (LLAMA_CPP_PYTHON.capabilities if serves() else frozenset())

    @property
    def endpoint(self) -> Endpoint:
        if not serves():
            raise TargetError("its server is not installed: pip install 'llama-cpp-python[server]'")
        return self._served.endpoint

    @property
    def entry_points(self) -> Sequence[str]:
        return entry_points(self.capabilities)

    @cached_property
    def ordinary_tokens(self) -> Sequence[int]:
        return self._unchanged.ordinary_ids()

    def encode(self, text: str) -> tuple[int, ...]:
        return self._model.tokenize(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return self._model.detokenize(tokens)

    def generate(self, request: Request) -> Generation:
        """Run one request; raises `TargetError` for one that llama.cpp refuses."""
        if not request.prompt:
            raise Refusal("the prompt is empty; expected at least one token")
        longest = len(request.prompt) + request.max_tokens
        sequence = LlamaSequence(self._model, self._within_context(longest))
        sampler = LlamaSampler(self._model, request.sampling, request.prompt, longest)
        pieces = cut(request.prompt, request.chunks if request.cache else ())
        tokens: list[int] = []
        times: list[int] = []
        margins: list[float] = []
        started = prefilled = self._clock()
        while len(tokens) < request.max_tokens:
            for piece in pieces:
                logits = sequence.decode(piece, all_logits=False)[0]
            if not tokens:
                prefilled = self._clock()
            tokens.append(sampler.next(sequence))
            times.append(self._clock())
            second, first = np.partition(logits, -2)[-2:]
            margins.append(float(first - second))
            if request.stop and self._model.llama.llama_vocab_is_eog(self._model.vocab, tokens[-1]):
                break
            pieces = [(tokens[-1],)]
            if not request.cache:
                sequence.trim(0)
                pieces = [(*request.prompt, *tokens)]
        return Generation(
            tokens=tuple(tokens),
            started_ns=started,
            prefilled_ns=prefilled,
            token_ns=tuple(times),
            margins=tuple(margins) if request.margins else None,
            text=self.decode(tokens),
        )

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """Raw logits (len(tokens), vocabulary) float32, by one prefill, of the file without faults."""
        return LlamaSequence(self._unchanged, self._within_context(len(tokens))).decode(
            tokens, all_logits=True
        )

    def session(
        self,
        capacity: int,
        *,
        prompt: int,  # noqa: ARG002
        cache: bool = True,  # noqa: ARG002
        threads: int | None = None,
    ) -> "LlamaSession":
        """Open a sequence; both arms are the same, as no fault of this target is in a cache."""
        if threads is not None:
            raise TargetError("this target lacks the capability threads")
        return LlamaSession(LlamaSequence(self._model, self._within_context(capacity)))

    @property
    def reference(self) -> Reference:
        """The bundled runtime's `array` backend on the unmutated file."""
        return self._reference()

    @contextmanager
    def plant(self, fault: Fault, bound: "Bound | None" = None) -> Iterator["LlamaCppTarget"]:
        """Give a target on a changed copy of the model, or behind a proxy; other faults have no seam here."""
        if self._fault is not None:
            raise CannotPlant(f"{fault}: this target has {self._fault} already")
        if is_of_wire(fault) and serves():
            from refute.faults import wire  # noqa: PLC0415 (only who asks over HTTP needs it)

            with wire.planted(self.endpoint, fault, bound) as endpoint:
                yield self._with(_fault=fault, _served=Served(lambda: nullcontext(endpoint)))
            return
        if not is_of_model(fault):
            raise CannotPlant(f"{fault}: only faults of the model and the wire can be planted in llama.cpp")
        with (
            mutant_of(self._path, fault) as copy,
            closing(Served(lambda: self._server(copy))) as served,
        ):
            yield self._with(_fault=fault, _model=LlamaModel(copy, self._threads), _served=served)

    def _server(self, path: Path) -> AbstractContextManager[Endpoint]:
        return llama_server(path, self._threads, self.identity.context, self._clock)

    def _with(self, **changed: object) -> "LlamaCppTarget":
        faulty = object.__new__(type(self))
        faulty.__dict__ |= self.__dict__ | changed
        return faulty

    def _within_context(self, capacity: int) -> int:
        context = self.identity.context
        if not 1 <= capacity <= context:
            raise TargetError(f"a sequence of {capacity} tokens: expected 1 to {context}, the context")
        return capacity


class LlamaSession:
    """One sequence in llama.cpp; it reports no routing."""

    def __init__(self, sequence: LlamaSequence) -> None:
        self._sequence = sequence

    @property
    def length(self) -> int:
        return self._sequence.length

    def extend(self, tokens: Sequence[int], *, routing: bool = False) -> Scores:  # noqa: ARG002
        return Scores(self._sequence.decode(tokens, all_logits=True))

    def fork(self) -> "LlamaSession":
        return LlamaSession(self._sequence.fork())

    def trim(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise TargetError(f"cannot trim a sequence of {self.length} tokens to {length}")
        self._sequence.trim(length)

    def stop(self, token: int, *, after: int, of: int, routing: bool = False) -> Stopped:
        return stopped(greedy(self, token, of, routing=routing), after)


def _array_reference(path: Path) -> ArrayReference:
    from refute.targets.bundled import BundledTarget  # noqa: PLC0415 (heavy)

    return ArrayReference(BundledTarget(path, "array", "cpu"))
