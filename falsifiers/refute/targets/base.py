"""What is attacked: the smallest surface that every falsifier needs of an engine.

A target is asked, it answers with what it did, and it says what it can promise (`capabilities`). Tokens
are ids, times are nanoseconds on the target's own monotonic clock, logits are raw (before temperature).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np

    from refute.contract import Bound
    from refute.faults.base import Fault
    from refute.targets.scores import Reference, Session, TokenVectors
    from refute.wire.endpoint import Endpoint


Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings. temperature 0 is greedy; top_k 0, top_p 1, min_p 0, penalty 1 switch off.

    Order of application: repetition penalty, temperature, top-k, top-p, min-p (the order of
    Hugging Face's logits processors).
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How tokens are handed out while they are computed, and when the caller has had enough.

    by: "callback" is called with each token, and stops by returning False; "iterator" is asked for each
    token, and stops by being closed. stop_after: tokens taken before the stop; None takes all.
    """

    by: Literal["callback", "iterator"]
    stop_after: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One generation.

    messages: (role, content) pairs instead of a prompt; the model's chat template makes the prompt of them.
    cache: True decodes over the KV cache; False is the slow twin, a full prefill for every token.
    chunks: sizes of the prefill chunks in order, the last one repeated; () is one chunk.
    stop: whether stop tokens end the generation (False always computes `max_tokens`).
    margins, routing: also report these, where the target has the capability.
    delivery: hand tokens out one by one and report the progress; None collects them all.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = Sampling()
    cache: bool = True
    chunks: tuple[int, ...] = ()
    stop: bool = False
    margins: bool = False
    routing: bool = False
    delivery: Delivery | None = None
    messages: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """What had been computed when: counted in the engine, by who begins a forward.

    forwards[i]: forwards begun when token i was handed out. total: forwards begun when all was over.
    """

    forwards: tuple[int, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Counters:
    """What the engine did, counted where it was done; sums over the forwards of one generation."""

    forwards: int = 0
    moe_layers: int = 0
    dense_layers: int = 0
    experts_run: int = 0
    cache_positions_read: int = 0
    guards_fired: int = 0


@dataclass(frozen=True, slots=True)
class Routing:
    """Experts chosen for the last prompt position and every generated one.

    experts: [position][layer][k], ids in ascending order. gaps: [position][layer], the router
    probability of the last expert chosen minus that of the first one not chosen.
    """

    experts: tuple[tuple[tuple[int, ...], ...], ...]
    gaps: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Generation:
    """What came back; started_ns <= prefilled_ns <= token_ns[0] <= ...

    token_ns[i]: when tokens[i] was whole.
    margins[i]: top logit minus second logit at the step that chose tokens[i].
    tokens are those that were handed out; progress: of a request with `delivery`.
    """

    tokens: tuple[int, ...]
    started_ns: int
    prefilled_ns: int
    token_ns: tuple[int, ...]
    counters: Counters = Counters()
    margins: tuple[float, ...] | None = None
    routing: Routing | None = None
    text: str = ""
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """What was attacked, read from the engine itself, never from flags.

    engine_digest: content digest of the engine's code (or the server's reported build).
    experts: of each MoE layer; 0 where there is none.
    settings: backend, device, numerics, threads and the like, as the engine reports them.
    """

    name: str
    engine: str
    engine_version: str
    engine_digest: str
    model_path: str | None
    model_name: str
    model_sha256: str | None
    architecture: str
    layers: int
    moe_layers: int
    dense_layers: int
    experts: int
    vocabulary: int
    context: int
    simulated: bool = False
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that one request needs, by the engine's own numbers.

    weights: as the backend keeps them, beside the mapped file. cache: keys and values of every position.
    workspace: what the largest steps of a forward hold at once.
    """

    weights: int
    cache: int
    workspace: int


@dataclass(frozen=True, slots=True)
class Peak:
    """Bytes of one process: before it loaded the model, and at most until it had served a request.

    anonymous_before, anonymous_after: memory that no file backs. file_after: resident pages of mapped
    files. peak: the most that was resident of both together, at any time.
    """

    anonymous_before: int
    anonymous_after: int
    file_after: int
    peak: int


CAPABILITIES = frozenset(
    {
        "token_ids",
        "cache_off",
        "chunks",
        "margins",
        "routing",
        "counters",
        "logits",
        "seed",
        "plant",
        "timing",
        "sessions",
        "reference",
        "tokenizer",
        "chat",
        "token_reference",
        "f32",
        "stream",
        "threads",
        "bitwise",
        "memory",
        "http",
        "http_context",
        "http_seed",
        "http_logprobs",
        "http_tools",
        "http_counters",
    }
)
"""What a target can promise, and a contract can require; `Target` says what each means."""


class Target(Protocol):
    """An engine under attack.

    Capabilities in use: token_ids (prompts and answers as ids), cache_off (the slow twin), chunks,
    margins, routing, counters, logits, seed, plant (faults can be planted in this very target), timing,
    sessions (sequences that are driven token by token), reference (numbers of another implementation),
    tokenizer (text to ids and back, whole and in a stream), chat (messages to ids through the model's
    template, also as `Request.messages`), token_reference (ids of another implementation), f32 (activations
    are float32: no rounding to fewer bits than the reference's), stream (`Request.delivery`), threads (a
    session runs on as many threads as it asks for), bitwise (a token's logits are the same bits however its
    past came in), memory (what is held can be read). Of a server: http (it answers as OpenAI's API does),
    http_context (how many tokens a request may have is known), http_seed, http_logprobs, http_tools (requests
    may ask for that), http_counters (what the engine did for a request).
    """

    @property
    def identity(self) -> Identity: ...

    @property
    def capabilities(self) -> frozenset[str]: ...

    @property
    def entry_points(self) -> Sequence[str]:
        """Names of all ways to make the engine compute, for who has to try every one of them."""
        ...

    @property
    def ordinary_tokens(self) -> Sequence[int]:
        """Ids of plain text tokens: no control tokens, no padding."""
        ...

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Tokens that plain text must never become: control tokens and user-defined ones, by their text."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Encode plain text. Raises `TargetError` for text that UTF-8 cannot write."""
        ...

    def encode_chat(self, messages: Sequence[Mapping[str, object]]) -> tuple[int, ...]:
        """Encode a prompt that asks for the next answer, through the model's template.

        Only with the capability `chat`. Raises `TargetError` for messages that it does not take.
        """
        ...

    def decode(self, tokens: Sequence[int]) -> str: ...

    def stream_decode(self, tokens: Sequence[int]) -> Sequence[str]:
        """Hand over tokens one by one: the text that came with each, and last what came at the end."""
        ...

    @property
    def token_reference(self) -> "TokenVectors":
        """What this target's token ids are compared with. Only with the capability `token_reference`."""
        ...

    def generate(self, request: Request) -> Generation: ...

    def logits(self, tokens: Sequence[int]) -> "np.ndarray":
        """Raw reference logits (len(tokens), vocabulary), float32, by one full prefill without faults."""
        ...

    def session(
        self, capacity: int, *, prompt: int, cache: bool = True, threads: int | None = None
    ) -> "Session":
        """Open a sequence of up to `capacity` tokens, of which the first `prompt` are the prompt.

        cache: False is the slow twin's arm, which faults of the cache do not reach. threads: how many
        compute; None as the engine stands, others only with the capability `threads`.
        """
        ...

    @property
    def reference(self) -> "Reference":
        """What this target's numbers are compared with. Only with the capability `reference`."""
        ...

    def footprint(self, request: Request) -> Footprint:
        """Return what serving this request should hold, by the engine's own numbers."""
        ...

    def resident(self) -> int:
        """Bytes of anonymous memory that the target holds now; pages of mapped files are not in it."""
        ...

    def fresh_peak(self, request: Request) -> Peak:
        """Load the model in a process of its own, serve the request there, and read what that took."""
        ...

    @property
    def endpoint(self) -> "Endpoint":
        """Where this engine answers over HTTP; its server starts when first asked for.

        Only with the capability `http`. Raises `TargetError` where the server does not come up.
        """
        ...

    def plant(self, fault: "Fault", bound: "Bound | None" = None) -> AbstractContextManager["Target"]:
        """Give a target that has `fault`; raises `CannotPlant` where this target has no such seam."""
        ...


class CannotPlant(Exception):  # noqa: N818 (it is an answer, not a failure)
    """The target has no seam for the fault; plant it in the stand-in instead."""


class TargetError(Exception):
    """The target refused or could not serve a request; the message is one sentence for a person."""


def cut(prompt: Sequence[int], chunks: Sequence[int]) -> list[tuple[int, ...]]:
    """Cut a prompt into chunks of these sizes as `Request` says. Raises `TargetError` for a size below 1."""
    if any(size < 1 for size in chunks):
        raise TargetError(f"chunk sizes must be at least 1, found {tuple(chunks)}")
    pieces, start, sizes = [], 0, list(chunks) or [len(prompt)]
    while start < len(prompt):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        pieces.append(tuple(prompt[start : start + size]))
        start += size
    return pieces


class Refusal(TargetError):  # noqa: N818 (it is an answer, not a failure)
    """The target refused a request before it computed anything for it."""
