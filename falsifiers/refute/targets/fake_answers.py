"""What the simulated engine's server says: the objects of OpenAI's API, step by step or whole."""

import codecs
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from refute.targets.fake_bodies import Asked
from refute.targets.fake_fields import MODEL
from refute.targets.fake_words import END, VOCABULARY, Step, answer
from refute.targets.fake_work import Forwards

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """What is told at once: text, the tokens since the piece before, and of the last one why it is that."""

    text: str
    steps: tuple[Step, ...]
    finish: str | None


def pieces(asked: Asked, draw: random.Random, forward: Callable[[int], object]) -> Iterator[Piece]:
    """Compute an answer token by token, and give what can be told as soon as it can.

    forward: called before each token is drawn, with the number of tokens that are new since the last one.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text, told, waiting = "", 0, list[Step]()
    forward(len(asked.prompt.tokens))
    for count, step in enumerate(answer(asked.prompt, asked.settings, draw), 1):
        waiting.append(step)
        last = step.token == END or count == asked.max_tokens
        text += decoder.decode(VOCABULARY[step.token], final=last)
        cut = min((place for stop in asked.stop if (place := text.find(stop)) >= 0), default=None)
        finish = None
        if cut is not None:
            text, finish = text[:cut], "stop"
        elif last:
            finish = "length" if step.token != END else "tool_calls" if asked.call else "stop"
        sure = len(text) - (0 if finish else _held(text, asked.stop))
        if finish or sure > told:
            yield Piece(text[told:sure], tuple(waiting), finish)
            told, waiting = sure, []
        if finish:
            return
        forward(1)


def _held(text: str, stops: Iterable[str]) -> int:
    """How many characters at the end may be the beginning of a stop text."""
    held = (size for stop in stops for size in range(len(stop)) if text.endswith(stop[:size]))
    return max(held, default=0)


class Writing:
    """Writes one answer, in chunks or whole. chat: as the newer route does. forwards: those that it took."""

    def __init__(self, asked: Asked, forwards: Forwards, *, chat: bool) -> None:
        self._asked = asked
        self._chat = chat
        self._forwards = forwards
        self._tokens = 0
        self._offset = 0  # characters before the next token
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._call = f"call_{uuid.uuid4().hex}"
        prefix = "chatcmpl" if chat else "cmpl"
        self._head = {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": MODEL}

    def opening(self) -> list[Json]:
        """Return the chunks that come before all text."""
        if not self._chat:
            return []
        if self._asked.call is None:
            return [self._chunk({"delta": {"role": "assistant", "content": ""}})]
        role: Json = {"role": "assistant", "content": None}
        call = {"index": 0, **self._called(self._asked.call, "")}
        return [self._chunk({"delta": role}), self._chunk({"delta": {"tool_calls": [call]}})]

    def chunks(self, piece: Piece) -> list[Json]:
        """Return the chunks of a piece: its text, then the end, then usage where that was asked for."""
        choices: list[Json] = []
        if piece.text:
            choices.append(self._said(piece.text))
        if piece.finish:
            said: Json = {"delta": {}} if self._chat else {"text": ""}
            choices.append({**said, "finish_reason": piece.finish})
        choices[0]["logprobs"] = self._logprobs(piece.steps)
        self._tokens += len(piece.steps)
        chunks = [self._chunk(choice) for choice in choices]
        if piece.finish and self._asked.include_usage:
            chunks.append({**chunks[-1], "choices": [], "usage": self._usage()})
        if piece.finish:
            chunks[-1] |= self._extension()
        return chunks

    def whole(self, told: Sequence[Piece]) -> Json:
        """Return the answer that all pieces make."""
        text = "".join(piece.text for piece in told)
        steps = [step for piece in told for step in piece.steps]
        self._tokens = len(steps)
        said: Json = {"text": text}
        if self._chat:
            message: Json = {"role": "assistant", "content": text, "refusal": None}
            if self._asked.call is not None:
                message |= {"content": None, "tool_calls": [self._called(self._asked.call, text)]}
            said = {"message": message}
        choice = {"index": 0, **said, "logprobs": self._logprobs(steps), "finish_reason": told[-1].finish}
        name = "chat.completion" if self._chat else "text_completion"
        answer = {**self._head, "object": name, "choices": [choice], "usage": self._usage()}
        return {**answer, **self._extension()}

    def _said(self, text: str) -> Json:
        if not self._chat:
            return {"text": text}
        if self._asked.call is None:
            return {"delta": {"content": text}}
        return {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}}

    def _called(self, name: str, arguments: str) -> Json:
        return {"id": self._call, "type": "function", "function": {"name": name, "arguments": arguments}}

    def _chunk(self, choice: Json) -> Json:
        name = "chat.completion.chunk" if self._chat else "text_completion"
        usage = {"usage": None} if self._asked.include_usage else {}
        choices = [{"index": 0, "logprobs": None, "finish_reason": None, **choice}]
        return {**self._head, "object": name, "choices": choices, **usage}

    def _usage(self) -> Json:
        prompt, answer = len(self._asked.prompt.tokens), self._tokens
        return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}

    def _extension(self) -> Json:
        if not self._asked.counters:
            return {}
        return {"refute": {"backend": "fake", "counters": asdict(self._forwards.told)}}

    def _logprobs(self, steps: Sequence[Step]) -> Json | None:
        if self._asked.top is None:
            return None
        told = [step.logprobs(self._asked.top) for step in steps]
        if self._chat:
            content = [{**_token(chosen), "top_logprobs": [*map(_token, top)]} for chosen, *top in told]
            return {"content": content, "refusal": None}
        offsets = []
        for (raw, _), *_ in told:
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(raw))
        return {
            "tokens": [_spelt(raw) for (raw, _), *_ in told],
            "token_logprobs": [logprob for (_, logprob), *_ in told],
            "top_logprobs": [{_spelt(raw): logprob for raw, logprob in named} for named in told],
            "text_offset": offsets,
        }


def _token(named: tuple[bytes, float]) -> Json:
    raw, logprob = named
    return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}


def _spelt(raw: bytes) -> str:
    """Name a token as the older route does: bytes that are no characters are spelt."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
