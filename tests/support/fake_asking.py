"""Questions to the simulated engine's server, and the keys that OpenAI's specification asks of answers."""

from refute.targets.fake import FakeTarget
from refute.wire.answers import Answer
from refute.wire.client import post

TARGET = FakeTarget()
# the keys of each object
OF_ANSWERS = {"id", "object", "created", "model", "choices"}
OF_LIKELIHOODS = {"token", "logprob", "bytes", "top_logprobs"}
OF_USAGE = {"prompt_tokens", "completion_tokens", "total_tokens"}
OF_ERRORS = {"message", "type", "param", "code"}
TOO_LONG = "context_length_exceeded"


def ask(content="Hello", *, target=TARGET, endpoint=None, **fields):
    """The answer to one chat."""
    body = {"model": "fake", "messages": [{"role": "user", "content": content}], "max_tokens": 16, **fields}
    return Answer.of_reply(post(endpoint or target.endpoint, "/chat/completions", body))


def complete(prompt, **fields):
    body = {"model": "fake", "prompt": prompt, **fields}
    return Answer.of_reply(post(TARGET.endpoint, "/completions", body))


def only(answer):
    """The JSON of a whole answer."""
    ((_, value),) = answer.chunks
    return value


def did(answer):
    """What the engine counted for an answer."""
    return only(answer)["refute"]["counters"]
