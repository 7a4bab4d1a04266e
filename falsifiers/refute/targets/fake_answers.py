"""What the simulated engine's server says: the objects of OpenAI's API, step by step or whole."""

import codecs
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from refute.targets.fake_bodies import MODEL, Asked
from refute.targets.fake_words import VOCABULARY, Step, answer
from refute.targets.fake_work import Work

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """What is told at once: text, the tokens that it is of, and after the last one why it is the last."""

    text: str
    steps: tuple[Step, ...]
    finish: str | None


def pieces(asked: Asked, draw: random.Random, works: Callable[[int], object]) -> Iterator[Piece | None]:
    """Compute an answer, token by token: None where a token completes no text that can be told yet.

    works: called before each token with how many tokens its forward takes in.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text, told, waiting = "", 0, list[Step]()
    works(len(asked.prompt.tokens))
    for count, step in enumerate(answer(asked.prompt, asked.settings, draw), 1):
        waiting.append(step)
        last = step.ends or count == asked.max_tokens
        text += decoder.decode(VOCABULARY[step.token], final=last)
        cut = min((place for stop in asked.stop if (place := text.find(stop)) >= 0), default=None)
        finish = None
        if cut is not None:
            text, finish = text[:cut], "stop"
        elif last:
            finish = ("tool_calls" if asked.calls else "stop") if step.ends else "length"
        sure = len(text) - (0 if finish else _held(text, asked.stop))
        if finish or sure > told:
            yield Piece(text[told:sure], tuple(waiting), finish)
            told, waiting = sure, []
        else:
            yield None
        if finish:
            return
        works(1)


def _held(text: str, stops: Iterable[str]) -> int:
    """How many characters at the end may be the beginning of a stop text."""
    held = (size for stop in stops for size in range(len(stop)) if text.endswith(stop[:size]))
    return max(held, default=0)


class Writing:
    """Writes one answer, in chunks or whole."""

    def __init__(self, asked: Asked, *, chat: bool, work: Work) -> None:
        self._asked = asked
        self._chat = chat
        self._work = work
        self._tokens = 0
        self._told = 0  # characters
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._call = f"call_{uuid.uuid4().hex}"
        self._head = {
            "id": ("chatcmpl-" if chat else "cmpl-") + uuid.uuid4().hex,
            "created": int(time.time()),
            "model": MODEL,
        }

    def opening(self) -> list[Json]:
        """The chunks that come before all text."""
        if not self._chat:
            return []
        chunks = [self._chunk({"delta": {"role": "assistant", "content": None if self._asked.calls else ""}})]
        if self._asked.calls:
            chunks.append(self._chunk({"delta": {"tool_calls": [{"index": 0, **self._called("")}]}}))
        return chunks

    def chunks(self, piece: Piece) -> list[Json]:
        """The chunks of a piece; after the last one also usage, where it was asked for."""
        choices = []
        if piece.text:
            said: Json = {"content": piece.text}
            if self._asked.calls:
                said = {"tool_calls": [{"index": 0, "function": {"arguments": piece.text}}]}
            choices.append({"delta": said} if self._chat else {"text": piece.text})
        if piece.finish:
            choices.append({"delta": {}} if self._chat else {"text": ""})
            choices[-1]["finish_reason"] = piece.finish
        choices[0]["logprobs"] = self._logprobs(piece.steps)
        self._tokens += len(piece.steps)
        chunks = [self._chunk(choice) for choice in choices]
        if piece.finish and self._asked.include_usage:
            chunks.append({**chunks[-1], "choices": [], "usage": self._usage()})
        if piece.finish:
            chunks[-1] |= self._extension()
        return chunks

    def whole(self, told: Sequence[Piece]) -> Json:
        """The answer that all pieces make."""
        text = "".join(piece.text for piece in told)
        steps = [step for piece in told for step in piece.steps]
        self._tokens = len(steps)
        said: Json = {"text": text}
        if self._chat:
            message: Json = {"role": "assistant", "content": text, "refusal": None}
            if self._asked.calls:
                message |= {"content": None, "tool_calls": [self._called(text)]}
            said = {"message": message}
        choice = {"index": 0, **said, "logprobs": self._logprobs(steps), "finish_reason": told[-1].finish}
        name = "chat.completion" if self._chat else "text_completion"
        head = {**self._head, "object": name}
        return {**head, "choices": [choice], "usage": self._usage(), **self._extension()}

    def _chunk(self, choice: Json) -> Json:
        name = "chat.completion.chunk" if self._chat else "text_completion"
        whole = {"index": 0, "logprobs": None, "finish_reason": None, **choice}
        usage = {"usage": None} if self._asked.include_usage else {}
        return {**self._head, "object": name, "choices": [whole], **usage}

    def _called(self, arguments: str) -> Json:
        function = {"name": self._asked.calls, "arguments": arguments}
        return {"id": self._call, "type": "function", "function": function}

    def _usage(self) -> Json:
        prompt = len(self._asked.prompt.tokens)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._tokens,
            "total_tokens": prompt + self._tokens,
        }

    def _extension(self) -> Json:
        if not self._asked.counters:
            return {}
        return {"refute": {"backend": "fake", "counters": asdict(self._work.counters)}}

    def _logprobs(self, steps: Sequence[Step]) -> Json | None:
        if self._asked.top is None:
            return None
        told = [step.logprobs(self._asked.top) for step in steps]
        if self._chat:
            content = [
                {**_token(*chosen), "top_logprobs": [_token(*each) for each in top]} for chosen, top in told
            ]
            return {"content": content, "refusal": None}
        offsets = []
        for chosen, _ in told:
            offsets.append(self._told)
            self._told += len(self._decoder.decode(chosen[0]))
        return {
            "tokens": [_text(chosen[0]) for chosen, _ in told],
            "token_logprobs": [chosen[1] for chosen, _ in told],
            "top_logprobs": [
                {_text(raw): logprob for raw, logprob in (*top, chosen)} for chosen, top in told
            ],
            "text_offset": offsets,
        }


def _token(raw: bytes, logprob: float) -> Json:
    return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}


def _text(raw: bytes) -> str:
    """A token as the older route names it: bytes that are no characters are spelt."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
