"""From the body of a request to a job for the loaded model, and to what writes its answer."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refute_runtime.engine import Engine
from refute_runtime.errors import ContextOverflow
from refute_runtime.serving.answers import Telling
from refute_runtime.serving.jobs import Job
from refute_runtime.serving.refusals import Refusal
from refute_runtime.serving.requests import Options, read_chat, read_completion
from refute_runtime.serving.responses import ChatShape, CompletionShape, Shape, Writing
from refute_runtime.serving.schema import Schema
from refute_runtime.serving.tool_calls import CallParser, parser_for
from refute_runtime.serving.tool_format import format_of

_COMPLETION_TOKENS = 16  # as many as OpenAI's API gives where max_tokens is not said
_SETTINGS = ("backend", "device", "numerics")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job, and what writes its answer."""

    job: Job
    writing: Writing
    stream: bool


def chat(raw: bytes, schema: Schema, engine: Engine, model: str) -> Prepared:
    """Read and tokenize messages. Raises `Refusal`; `RuntimeFailure` of template and context."""
    request = read_chat(raw, schema, model)
    template, options = engine.template, request.options
    telling = Telling(_parser(template.source, request.tools) if request.tools else None)
    prompt = template.encode(request.messages, request.tools or None)
    job = _job(prompt, options, _left(prompt, engine))
    shape = ChatShape(logprobs=options.top_logprobs is not None)
    writing = _writing(job, options, engine, model=model, shape=shape, telling=telling)
    return Prepared(job, writing, options.stream)


def completion(raw: bytes, schema: Schema, engine: Engine, model: str) -> Prepared:
    """Read and tokenize a prompt, or take its tokens. Raises `Refusal`, `RuntimeFailure`."""
    request = read_completion(raw, schema, model)
    text, options = request.prompt, request.options
    prompt = engine.tokenizer.encode(text) if isinstance(text, str) else text
    job = _job(prompt, options, min(_COMPLETION_TOKENS, _left(prompt, engine)))
    shape = CompletionShape(logprobs=options.top_logprobs is not None)
    writing = _writing(job, options, engine, model=model, shape=shape, telling=Telling())
    return Prepared(job, writing, options.stream)


def _parser(template: str, tools: Sequence[Mapping[str, Any]]) -> CallParser:
    tool_format = format_of(template)
    if tool_format is None:
        message = (
            "tools are there, expected none: the model's chat template does not tell it how to call them"
        )
        raise Refusal(400, message, param="tools", code="unsupported_parameter")
    return parser_for(tool_format, tools, lambda _: f"call_{uuid.uuid4().hex}")


def _left(prompt: Sequence[int], engine: Engine) -> int:
    """How many tokens the context has left for an answer."""
    context = engine.config.context
    if len(prompt) >= context:
        raise ContextOverflow(
            f"the prompt has {len(prompt)} tokens, expected fewer than {context}, the positions of the model"
        )
    return context - len(prompt)


def _job(prompt: Sequence[int], options: Options, usual: int) -> Job:
    """usual: the most tokens of an answer whose request does not say how many."""
    return Job(
        prompt=tuple(prompt),
        max_tokens=usual if options.max_tokens is None else options.max_tokens,
        sampling=options.sampling,
        stop=options.stop,
        top_logprobs=options.top_logprobs,
    )


def _writing(
    job: Job, options: Options, engine: Engine, *, model: str, shape: Shape, telling: Telling
) -> Writing:
    settings = engine.settings
    return Writing(
        shape,
        telling,
        model=model,
        prompt_tokens=len(job.prompt),
        include_usage=options.include_usage,
        extension={name: settings[name] for name in _SETTINGS} if options.counters else None,
    )
