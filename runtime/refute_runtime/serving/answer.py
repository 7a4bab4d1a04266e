"""One job, computed forward by forward."""

from collections.abc import Generator, Sequence

import numpy as np

from refute_runtime.backends.base import Cache
from refute_runtime.engine import DrawsTokens, Engine
from refute_runtime.model import Counters
from refute_runtime.sampling import Sampler, check_whole, ranked
from refute_runtime.serving.jobs import Job, Likelihood, Step
from refute_runtime.serving.stop_texts import StopTexts
from refute_runtime.tokenizer import Tokenizer

CHUNK = 64
"""Prompt tokens of one forward. All other answers wait for it: on the embedded model that is the time of
about ten tokens, at three quarters of the speed of a prompt that is computed in one piece."""

Steps = Generator[Step | None, None, None]


def check(engine: Engine, job: Job) -> None:
    """Refuse a job that cannot be computed; raises `RequestError` naming the field, `ContextOverflow`."""
    engine.check(job.prompt, job.max_tokens)
    StopTexts(job.stop)
    if job.top_logprobs is not None:
        check_whole("top_logprobs", job.top_logprobs)


def forwards(job: Job) -> int:
    """How many forwards the job takes if nothing ends it early."""
    return -(-len(job.prompt) // CHUNK) - 1 + job.max_tokens


def steps(
    engine: Engine, job: Job, *, cache: Cache | None = None, sampler: DrawsTokens | None = None
) -> Steps:
    """Compute one forward each time: None after a chunk of the prompt that gives no token yet.

    cache: an empty one for prompt and answer; by default it is made with the first forward, and is gone when
    the generator ends or is closed. sampler: instead of the one that the job describes, given the whole
    history. Raises `RuntimeFailure` where logits are no distribution.
    """
    if cache is None:
        cache = engine.new_cache(len(job.prompt) + job.max_tokens)
    before = (len(job.prompt) - 1) // CHUNK * CHUNK
    inner = Sampler(job.sampling) if sampler is None else sampler
    watched = _Watched(inner, job.prompt[:before], job.top_logprobs, engine.tokenizer)
    # Where neither logits nor history matter, nobody looks between: a GPU may choose tokens by itself.
    unwatched = sampler is None and job.top_logprobs is None and job.sampling.highest
    drawing = inner if unwatched else watched
    shown = StopTexts(job.stop)
    counters = Counters()
    for start in range(0, before, CHUNK):
        counters += engine.model.forward(job.prompt[start : start + CHUNK], cache).counters
        yield None
    rest = job.prompt[before:]
    for token in engine.generate(rest, max_tokens=job.max_tokens, cache=cache, sampler=drawing):
        text, found = shown.push(token.text)
        if token.finish and not found:
            text += shown.flush()
        yield Step(
            id=token.id,
            text=text,
            counters=counters + token.counters,
            finish="stop" if found else token.finish,
            chosen=watched.chosen,
            likeliest=watched.likeliest,
        )
        if found:
            return
        counters = Counters()


class _Watched:
    """A sampler that sees the whole prompt, its first chunks too, and notes how likely the tokens were."""

    def __init__(
        self, inner: DrawsTokens, before: Sequence[int], top: int | None, tokenizer: Tokenizer
    ) -> None:
        self._inner = inner
        self._before = before
        self._top = top
        self._tokenizer = tokenizer
        self.chosen: Likelihood | None = None
        self.likeliest: tuple[Likelihood, ...] = ()

    def next(self, logits: np.ndarray, history: Sequence[int]) -> int:
        token = self._inner.next(logits, [*self._before, *history])
        if self._top is not None:
            raw = logits.astype(np.float64)  # (V,)
            above = raw - raw.max()
            logprobs = above - np.log(np.exp(above).sum())  # (V,)
            ids = [token, *(ranked(raw, self._top).tolist() if self._top else ())]
            self.chosen, *likeliest = (
                Likelihood(id, float(logprobs[id]), self._tokenizer.bytes_of(id)) for id in ids
            )
            self.likeliest = tuple(likeliest)
        return token
