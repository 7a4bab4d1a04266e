"""What a target answers where it lacks a capability: one sentence, whoever asks all the same."""

from collections.abc import Mapping, Sequence
from typing import NoReturn

from refute.targets.base import Footprint, Peak, Request, TargetError
from refute.targets.scores import TokenVectors
from refute.wire.endpoint import Endpoint


class PartialTarget:
    """A target that has none of what depends on a capability of its own; subclasses add what they have."""

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
