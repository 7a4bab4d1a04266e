"""The engine: a model file, loaded, that generates tokens one by one.

A generator computes a token when it is asked for one and nothing ahead, so closing it (or an `on_token`
that returns False) stops the computing at once; only a GPU may be two tokens ahead by then. `cache`,
`sampler` and `with_backend` are the seams where a caller puts a wrapped part in.
"""

import hashlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np

from refute_runtime.backends.base import Backend, Cache, GreedyToken
from refute_runtime.backends.choice import AUTO, Progress, open_backend
from refute_runtime.config import ModelConfig
from refute_runtime.errors import ContextOverflow, RequestError
from refute_runtime.model import Counters, Forward, LayerRouting, Model
from refute_runtime.sampling import Sampler, SamplingParams, check_finite, check_whole, is_whole
from refute_runtime.tokenizer import Tokenizer
from refute_runtime.weights import GgufFile, Weights

if TYPE_CHECKING:
    from refute_runtime.chat import ChatTemplate


class DrawsTokens(Protocol):
    """What `generate` asks of a sampler."""

    def next(self, logits: np.ndarray, history: Sequence[int]) -> int:
        """Return a token id for raw logits (V,), given prompt and answer so far."""
        ...


@dataclass(frozen=True, slots=True)
class TokenRouting:
    """What the routers decided at the position whose logits gave a token.

    experts: [layer][k], ascending. gaps: [layer]. A layer without router has no experts and gap 1.
    """

    experts: tuple[tuple[int, ...], ...]
    gaps: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token.

    text: what it adds to the answer, whole characters only; none for a stop token. margin: top logit
    minus second. time_ns: when it was chosen; prefilled_ns: when the prompt was computed (0 on all but
    the first). counters: of the forwards made for it, prefill included in the first. finish: why it is
    the last one, where it is.
    """

    id: int
    text: str
    index: int
    margin: float
    time_ns: int
    prefilled_ns: int
    counters: Counters
    routing: TokenRouting | None
    finish: Literal["stop", "length"] | None


class Engine:
    """A loaded model; make one with `Engine.load`. notes: sentences that a person should be told once."""

    def __init__(
        self,
        file: GgufFile,
        config: ModelConfig,
        weights: Weights,
        tokenizer: Tokenizer,
        backend: Backend,
        *,
        notes: tuple[str, ...] = (),
        progress: Progress | None = None,
    ) -> None:
        self.file = file
        self.config = config
        self.weights = weights
        self.tokenizer = tokenizer
        self.backend = backend
        self.notes = notes
        self.model = Model(config, backend, progress)
        self._progress = progress

    @classmethod
    def load(
        cls,
        path: Path | str,
        backend: str = AUTO,
        device: str = AUTO,
        *,
        mmap: bool | None = None,
        threads: int | None = None,
        processes: int = 1,
        progress: Progress | None = None,
    ) -> Self:
        """Open a GGUF model for a backend on a device (`auto`, `cpu`, `gpu`).

        backend: one of `choice.BACKENDS`; `auto` is the fastest one that can run the model here. mmap:
        whether `cpu` computes on the mapped file or reads it into memory; None reads it where memory is
        enough. threads: those that compute, where it is not for the backend to say. processes: how many load
        the model at once, and share memory and processors. progress: told while
        kernels are compiled and the file is read, as `choice` says, and later while long prompts are
        computed.

        Raises `FormatError` and `UnsupportedError`, naming the file and what is wrong with it.
        """
        file = GgufFile.open(Path(path))
        try:
            config = ModelConfig.from_metadata(file.metadata, file.tensors, source=str(path))
            tokenizer = Tokenizer.from_metadata(file.metadata)
            how: dict[str, Any] = {"mapped": mmap, "threads": threads, "processes": processes}
            opened = open_backend(backend, device, file, config, **how, progress=progress)
            more: dict[str, Any] = {"notes": opened.notes, "progress": progress}
            return cls(file, config, opened.weights, tokenizer, opened.backend, **more)
        except BaseException:
            file.close()
            raise

    def with_backend(self, backend: Backend) -> Self:
        """Return an engine that shares weights and tokenizer but runs another (or a wrapped) backend."""
        more: dict[str, Any] = {"notes": self.notes, "progress": self._progress}
        return type(self)(self.file, self.config, self.weights, self.tokenizer, backend, **more)

    def with_threads(self, threads: int) -> Self:
        """Return an engine on the same weights that computes on this many threads of the host.

        Raises `RequestError` for fewer than one.
        """
        check_whole("threads", threads, 1)
        return (
            self if threads == self.backend.threads else self.with_backend(self.backend.with_threads(threads))
        )

    def close(self) -> None:
        """Unmap the file."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def template(self) -> "ChatTemplate":
        """The file's chat template. Raises `TemplateError` where it has none."""
        from refute_runtime.chat import ChatTemplate  # noqa: PLC0415 (Jinja only where there is a chat)

        return ChatTemplate.from_metadata(self.file.metadata, self.tokenizer)

    @cached_property
    def digest(self) -> str:
        """sha256 over the sources of this package: engines of one digest run the same code."""
        root = Path(__file__).parent
        recipe = root / "pocket" / "recipe"  # makes the embedded model, runs nothing here, is not installed
        total = hashlib.sha256()
        for source in sorted(root.rglob("*"), key=lambda p: p.relative_to(root).parts):
            if source.suffix in {".py", ".cu", ".cuh"} and not source.is_relative_to(recipe):
                content = source.read_bytes()
                total.update(f"{source.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
        return total.hexdigest()

    @property
    def settings(self) -> dict[str, object]:
        """How this engine computes, as a record keeps it. weights: where they lie, and why there."""
        blocks = self.weights.blocks
        return {
            "backend": self.backend.name,
            "device": self.backend.device,
            "numerics": self.backend.numerics,
            "threads": self.backend.threads,
            "weights": "mmap" if blocks is None else f"{blocks.kind} ({blocks.why})",
            "numpy": np.__version__,
            **self.backend.details,
        }

    def new_cache(self, capacity: int | None = None) -> Cache:
        """Make an empty cache; by default for as many tokens as the model has positions."""
        return self.backend.new_cache(self.config.context if capacity is None else capacity)

    def check(self, prompt: Sequence[int], max_tokens: int, cache: Cache | None = None) -> None:
        """Refuse what `generate` cannot do: raises `RequestError` naming the field, `ContextOverflow`."""
        if not prompt:
            raise RequestError("prompt is empty, expected at least one token id")
        for token in prompt:
            if not is_whole(token) or not 0 <= token < self.config.vocabulary:
                last = self.config.vocabulary - 1
                raise RequestError(f"prompt has {token!r}, expected token ids from 0 to {last}")
        check_whole("max_tokens", max_tokens, 1)
        limit = self.config.context if cache is None else min(self.config.context, cache.capacity)
        held = 0 if cache is None else cache.length
        if held + len(prompt) + max_tokens > limit:
            raise ContextOverflow(
                f"a prompt of {len(prompt)} tokens and max_tokens {max_tokens}"
                f"{f' after {held} tokens in the cache' if held else ''} "
                f"need {held + len(prompt) + max_tokens} positions, expected at most {limit}; shorten one"
            )

    def generate(
        self,
        prompt: Sequence[int],
        params: SamplingParams | None = None,
        *,
        max_tokens: int,
        cache: Cache | None = None,
        sampler: DrawsTokens | None = None,
        chunks: Sequence[int] = (),
        twin: bool = False,
        stop: bool = True,
        on_token: Callable[[Token], object] | None = None,
        routing: bool = False,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> Generator[Token, None, None]:
        """Generate up to `max_tokens` tokens after `prompt`, each computed when it is asked for.

        chunks: sizes of the prefill's chunks in order, the last one repeated; () is one chunk. twin: the
        slow twin, a full prefill in a new cache for every token. stop: end with a stop token (it is the
        last token, without text). on_token: called with each token; False ends the generation.
        cache: continue after the rows it holds. sampler: instead of the one that `params` describe.

        Requests are checked here, before anything is computed: raises `RequestError` naming the field,
        `ContextOverflow`; the generator raises `RuntimeFailure` where logits are no distribution.
        """
        prompt, chunks = tuple(prompt), tuple(chunks)
        self.check(prompt, max_tokens, cache)
        for size in chunks:
            check_whole("chunks", size, 1)
        if twin and (cache is not None or chunks):
            raise RequestError("twin takes neither cache nor chunks: it prefills all at once, in new caches")
        if not twin and cache is None:
            cache = self.new_cache(len(prompt) + max_tokens)
        if sampler is None:
            sampler = Sampler(params or SamplingParams())
        return self._tokens(prompt, max_tokens, cache, sampler, chunks, stop, on_token, routing, clock)

    def _tokens(  # noqa: PLR0917 (one caller, three lines above)
        self,
        prompt: tuple[int, ...],
        max_tokens: int,
        cache: Cache | None,
        sampler: DrawsTokens,
        chunks: tuple[int, ...],
        stop: bool,
        on_token: Callable[[Token], object] | None,
        routing: bool,
        clock: Callable[[], int],
    ) -> Generator[Token, None, None]:
        history = list(prompt)
        text = self.tokenizer.stream()
        ahead: Iterator[GreedyToken] | None = None
        for index in range(max_tokens):
            if index == 1 and not routing:
                ahead = self._ahead(history[-1], cache, sampler, max_tokens - 1)
            prefilled_ns, decided = 0, None
            if ahead is not None:
                found = next(ahead)
                check_finite(found.id, float(found.top))
                chosen, margin = found.id, float(found.top - found.second)
                counters = self.model.counted(found.past, found.flaws)
            else:
                if cache is None:  # the slow twin
                    forward = self.model.forward(history, self.new_cache(len(history)), routing=routing)
                else:
                    forward = self._extend(history if index == 0 else history[-1:], cache, chunks, routing)
                prefilled_ns = clock() if index == 0 else 0
                logits = forward.logits[-1]  # (V,)
                chosen, margin = sampler.next(logits, history), _margin(logits)
                counters, decided = forward.counters, _last_position(forward.routing)
            time_ns = clock()
            history.append(chosen)

            finish: Literal["stop", "length"] | None = None
            if stop and chosen in self.tokenizer.stop_ids:
                finish = "stop"
            elif index + 1 == max_tokens:
                finish = "length"
            said = "" if finish == "stop" else text.push(chosen)
            token = Token(
                id=chosen,
                text=said + text.flush() if finish else said,
                index=index,
                margin=margin,
                time_ns=time_ns,
                prefilled_ns=prefilled_ns,
                counters=counters,
                routing=decided,
                finish=finish,
            )
            wanted = on_token is None or on_token(token) is not False
            yield token
            if finish or not wanted:
                return

    def _ahead(
        self, token: int, cache: Cache | None, sampler: DrawsTokens, count: int
    ) -> Iterator[GreedyToken] | None:
        """Tokens that the backend computes and chooses by itself, ahead of who asks.

        Only where nobody looks between: a wrapped backend, cache or sampler is asked step by step.
        """
        greedy = getattr(type(self.backend), "greedy", None)
        if greedy is None or type(sampler) is not Sampler or not sampler.params.highest:
            return None
        found: Iterator[GreedyToken] | None = greedy(self.backend, token, cache, count)
        return found

    def _extend(self, tokens: Sequence[int], cache: Cache, chunks: tuple[int, ...], routing: bool) -> Forward:
        """Run tokens after those in the cache, in chunks; the last forward, with the counters of all."""
        counters, done, sizes, size = Counters(), 0, iter(chunks), len(tokens)
        while True:
            size = next(sizes, size)
            forward = self.model.forward(tokens[done : done + size], cache, routing=routing)
            counters += forward.counters
            done += size
            if done >= len(tokens):
                return replace(forward, counters=counters)


def _margin(logits: np.ndarray) -> float:
    """Top logit minus second; infinite where there is no second."""
    if len(logits) < 2:
        return float("inf")
    second, top = np.partition(logits, -2)[-2:]
    return float(top - second)


def _last_position(layers: tuple[LayerRouting, ...] | None) -> TokenRouting | None:
    if layers is None:
        return None
    return TokenRouting(
        experts=tuple(tuple(layer.experts[-1].tolist()) for layer in layers),
        gaps=tuple(float(layer.gap[-1]) for layer in layers),
    )
