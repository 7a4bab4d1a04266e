"""The objects of OpenAI's API as plain dicts: completions, their chunks, models, usage, logprobs."""

import codecs
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from refute_runtime.model import Counters
from refute_runtime.serving.answers import Delta, Telling, summed
from refute_runtime.serving.jobs import Likelihood, Step
from refute_runtime.serving.tool_calls import Call

Json = dict[str, Any]
_LEAST_LOGPROB = -9999.0  # JSON has no infinity; OpenAI writes this


class Shape(Protocol):
    """How one route writes its answers. `name` and `chunk_name` are the values of `object`."""

    prefix: str
    name: str
    chunk_name: str

    def opening(self) -> list[Json]:
        """Return the choices, one a chunk, that come before the first delta."""
        ...

    def pieces(self, delta: Delta) -> list[Json]:
        """Return a delta's choices, one a chunk; only the last of an answer has a finish_reason."""
        ...

    def whole(self, delta: Delta) -> Json:
        """Return the one choice of a whole answer."""
        ...


class ChatShape:
    """Writes as /v1/chat/completions does."""

    prefix = "chatcmpl-"
    name = "chat.completion"
    chunk_name = "chat.completion.chunk"

    def __init__(self, logprobs: bool) -> None:
        self._logprobs = logprobs

    def opening(self) -> list[Json]:
        return [self._piece({"role": "assistant", "content": ""})]

    def pieces(self, delta: Delta) -> list[Json]:
        said: Json = {}
        if delta.content:
            said["content"] = delta.content
        if delta.calls:
            said["tool_calls"] = [{"index": call.index, **_call(call)} for call in delta.calls]
        if not delta.finish:
            return [self._piece(said, delta.steps)]
        if not said:
            return [self._piece({}, delta.steps, delta.finish)]
        return [self._piece(said, delta.steps), self._piece({}, (), delta.finish)]

    def whole(self, delta: Delta) -> Json:
        message: Json = {"role": "assistant", "content": delta.content, "refusal": None}
        if delta.calls:
            message["content"] = delta.content or None
            message["tool_calls"] = [_call(call) for call in delta.calls]
        return {
            "index": 0,
            "message": message,
            "logprobs": self._likelihoods(delta.steps),
            "finish_reason": delta.finish,
        }

    def _piece(self, said: Json, steps: Sequence[Step] = (), finish: str | None = None) -> Json:
        likelihoods = self._likelihoods(steps) if steps else None
        return {"index": 0, "delta": said, "logprobs": likelihoods, "finish_reason": finish}

    def _likelihoods(self, steps: Iterable[Step]) -> Json | None:
        if not self._logprobs:
            return None
        content = [
            {**_token(step.chosen), "top_logprobs": [_token(token) for token in step.likeliest]}
            for step in steps
            if step.chosen is not None
        ]
        return {"content": content, "refusal": None}


class CompletionShape:
    """Writes as /v1/completions does."""

    prefix = "cmpl-"
    name = chunk_name = "text_completion"

    def __init__(self, logprobs: bool) -> None:
        self._logprobs = logprobs
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0  # characters before the next token

    def opening(self) -> list[Json]:
        return []

    def pieces(self, delta: Delta) -> list[Json]:
        if not delta.finish or not delta.content:
            return [self.whole(delta)]
        return [
            self.whole(Delta(content=delta.content, steps=delta.steps)),
            self.whole(Delta(finish=delta.finish)),
        ]

    def whole(self, delta: Delta) -> Json:
        return {
            "index": 0,
            "text": delta.content,
            "logprobs": self._likelihoods(delta.steps) if self._logprobs and delta.steps else None,
            "finish_reason": delta.finish,
        }

    def _likelihoods(self, steps: Iterable[Step]) -> Json:
        tokens = [(step.chosen, step.likeliest) for step in steps if step.chosen is not None]
        offsets = []
        for chosen, _ in tokens:
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(chosen.bytes))
        return {
            "tokens": [_legacy_text(chosen) for chosen, _ in tokens],
            "token_logprobs": [_finite(chosen.logprob) for chosen, _ in tokens],
            "top_logprobs": [
                {_legacy_text(token): _finite(token.logprob) for token in (*top, chosen)}
                for chosen, top in tokens
            ],
            "text_offset": offsets,
        }


class Writing:
    """Writes the answer to one request, whole or in chunks, from the steps of its job.

    extension: what `refute` tells in the answer besides its counters; None where it was not asked for.
    """

    def __init__(
        self,
        shape: Shape,
        telling: Telling,
        *,
        model: str,
        prompt_tokens: int,
        include_usage: bool,
        extension: Mapping[str, object] | None,
    ) -> None:
        self._shape = shape
        self._telling = telling
        self._head = {"id": shape.prefix + uuid.uuid4().hex, "created": int(time.time()), "model": model}
        self._prompt_tokens = prompt_tokens
        self._include_usage = include_usage
        self._extension = extension
        self._tokens = 0
        self._counters = Counters()

    def chunks(self, step: Step) -> list[Json]:
        """Return the chunks that this step, the next one, gives."""
        choices = [] if self._tokens else self._shape.opening()
        delta = self._take(step)
        choices += self._shape.pieces(delta) if delta else []
        empty: Json = {"usage": None} if self._include_usage else {}
        head = {**self._head, "object": self._shape.chunk_name}
        chunks = [{**head, "choices": [choice], **empty} for choice in choices]
        if step.finish and self._include_usage:
            chunks.append({**head, "choices": [], "usage": self._usage()})
        if step.finish:
            chunks[-1] |= self._extended()
        return chunks

    def whole(self, steps: Iterable[Step]) -> Json:
        """Return the answer that all steps make."""
        deltas = [delta for step in steps if (delta := self._take(step))]
        return {
            **self._head,
            "object": self._shape.name,
            "choices": [self._shape.whole(summed(deltas))],
            "usage": self._usage(),
            **self._extended(),
        }

    def _take(self, step: Step) -> Delta | None:
        self._tokens += 1
        self._counters += step.counters
        return self._telling.tell(step)

    def _usage(self) -> Json:
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._tokens,
            "total_tokens": self._prompt_tokens + self._tokens,
        }

    def _extended(self) -> Json:
        if self._extension is None:
            return {}
        return {"refute": {**self._extension, "counters": asdict(self._counters)}}


def model_object(name: str, created: int, context: int, build: str) -> Json:
    """Describe the model, and by which build of this package it is served."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "refute",
        "max_model_len": context,
        "build": build,
    }


def model_list(models: Sequence[Json]) -> Json:
    return {"object": "list", "data": list(models)}


def _call(call: Call) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _token(token: Likelihood) -> Json:
    return {
        "token": token.bytes.decode("utf-8", "replace"),
        "logprob": _finite(token.logprob),
        "bytes": list(token.bytes),
    }


def _finite(logprob: float) -> float:
    return max(logprob, _LEAST_LOGPROB)


def _legacy_text(token: Likelihood) -> str:
    """A token as the older route names it: bytes that are no characters are spelt."""
    try:
        return token.bytes.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)
