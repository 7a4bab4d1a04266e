"""What a target answers where it lacks a capability: one sentence, whoever asks all the same."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from refute.targets.base import Footprint, Generation, Peak, Request, TargetError
from refute.targets.scores import Reference, Session, TokenVectors
from refute.wire.endpoint import Endpoint

if TYPE_CHECKING:
    import numpy as np


class PartialTarget:
    """A target that has none of what depends on a capability of its own; subclasses add what they have."""

    @property
    def ordinary_tokens(self) -> Sequence[int]:
        _refuse("token_ids")

    def encode(self, text: str) -> tuple[int, ...]:  # noqa: ARG002
        _refuse("token_ids")

    def decode(self, tokens: Sequence[int]) -> str:  # noqa: ARG002
        _refuse("token_ids")

    def generate(self, request: Request) -> Generation:  # noqa: ARG002
        _refuse("token_ids")

    def logits(self, tokens: Sequence[int]) -> "np.ndarray":  # noqa: ARG002
        _refuse("logits")

    def session(
        self,
        capacity: int,  # noqa: ARG002
        *,
        prompt: int,  # noqa: ARG002
        cache: bool = True,  # noqa: ARG002
        threads: int | None = None,  # noqa: ARG002
    ) -> Session:
        _refuse("sessions")

    @property
    def reference(self) -> Reference:
        _refuse("reference")

    @property
    def special_tokens(self) -> Mapping[str, int]:
        _refuse("tokenizer")

    def encode_chat(self, messages: Sequence[Mapping[str, object]]) -> tuple[int, ...]:  # noqa: ARG002
        _refuse("chat")

    def stream_decode(self, tokens: Sequence[int]) -> Sequence[str]:  # noqa: ARG002
        _refuse("tokenizer")

    @property
    def token_reference(self) -> TokenVectors:
        _refuse("token_reference")

    def footprint(self, request: Request) -> Footprint:  # noqa: ARG002
        _refuse("memory")

    def resident(self) -> int:
        _refuse("memory")

    def fresh_peak(self, request: Request) -> Peak:  # noqa: ARG002
        _refuse("memory")

    @property
    def endpoint(self) -> Endpoint:
        _refuse("http")


def _refuse(capability: str) -> NoReturn:
    raise TargetError(f"this target lacks the capability {capability}")
