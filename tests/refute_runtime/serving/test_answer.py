import math

import numpy as np
import pytest
from serving_parts import Dictated, Watched
from tiny_gguf import TinyModel, write_tiny

from refute_runtime import Engine, SamplingParams
from refute_runtime.errors import ContextOverflow, RequestError
from refute_runtime.serving.answer import CHUNK, check, forwards, steps
from refute_runtime.serving.jobs import Job, Likelihood

LONG = tuple(range(100, 100 + 2 * CHUNK + 7))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    path = write_tiny(tmp_path_factory.mktemp("answer") / "m.gguf")
    with Engine.load(path, "array", "cpu") as loaded:
        yield loaded


def told(engine, *tokens):
    """An engine whose model prefers these tokens, in order."""
    rows = []
    for token in tokens:
        rows.append(np.zeros(engine.config.vocabulary))
        rows[-1][token] = 1.0
    return engine.with_backend(Dictated(engine.backend, rows))


def answer(engine, *tokens, stop=(), more=0):
    """Text and finish of each step where the model says these tokens and may say `more`."""
    job = Job((1, 2), len(tokens) + more, SamplingParams(), stop)
    return [(step.text, step.finish) for step in steps(told(engine, *tokens), job)]


def spelled(engine, text):
    return [engine.tokenizer.encode(character)[0] for character in text]


class Scripted:
    """A sampler that draws what it is told, and notes what it is given."""

    def __init__(self, *tokens):
        self.tokens, self.histories = list(tokens), []

    def next(self, logits, history):
        self.histories.append(tuple(history))
        return self.tokens[len(self.histories) - 1]


def test_another_sampler_draws_and_sees_the_whole_prompt(engine):
    sampler = Scripted(100, 101)
    given = [step for step in steps(engine, Job(LONG, 2, SamplingParams()), sampler=sampler) if step]
    assert [step.id for step in given] == [100, 101]
    assert sampler.histories == [LONG, (*LONG, 100)]


def test_a_cache_that_is_given_is_filled(engine):
    cache = engine.new_cache(len(LONG) + 2)
    list(steps(engine, Job(LONG, 2, SamplingParams()), cache=cache))
    assert cache.length == len(LONG) + 1


def test_a_character_is_shown_whole(engine):
    of_byte = {engine.tokenizer.bytes_of(id): id for id in range(256)}
    first, second = of_byte[b"\xc3"], of_byte[b"\xb6"]
    assert answer(engine, first, second, first) == [("", None), ("ö", None), ("\ufffd", "length")]


def test_a_stop_text_ends_the_answer_and_is_not_shown(engine):
    ids = spelled(engine, "aENDb")
    assert answer(engine, *ids, stop=("END",)) == [("a", None), ("", None), ("", None), ("", "stop")]


def test_text_that_became_no_stop_text_is_shown_as_soon_as_that_is_clear(engine):
    ids = spelled(engine, "ENx")
    assert answer(engine, *ids, stop=("END",)) == [("", None), ("", None), ("ENx", "length")]


def test_the_end_shows_what_was_held_back(engine):
    (stop_token,) = sorted(engine.tokenizer.stop_ids)[-1:]
    ids = spelled(engine, "EN")
    assert answer(engine, *ids, stop=("END",)) == [("", None), ("EN", "length")]
    assert answer(engine, *ids, stop_token, stop=("END",), more=5) == [("", None), ("", None), ("EN", "stop")]


def test_a_stop_text_in_the_last_token_counts(engine):
    assert answer(engine, *spelled(engine, "ab"), stop=("ab",)) == [("", None), ("", "stop")]


def test_nothing_is_computed_after_a_stop_text(engine):
    dictated = told(engine, *spelled(engine, "ab"))
    list(steps(dictated, Job((1,), 50, SamplingParams(), ("b",))))
    assert dictated.backend.forwards == 2


def test_logprobs_are_of_the_raw_logits_and_rank_the_lower_id_first(engine):
    shares = np.full(engine.config.vocabulary, 0.0)
    shares[[7, 3, 5, 9]] = [0.5, 0.125, 0.25, 0.125]
    with np.errstate(divide="ignore"):
        row = np.log(shares) + 3  # a softmax does not see what is added to all
    dictated = engine.with_backend(Dictated(engine.backend, [row]))
    # the penalty takes 7 from the first place, and it and the temperature change all probabilities
    sampling = SamplingParams(temperature=2.0, top_k=1, repetition_penalty=4.0)
    (step,) = steps(dictated, Job((7, 1), 1, sampling, top_logprobs=3))

    def likelihood(id, share):
        logprob = pytest.approx(math.log(share), abs=1e-6)
        return Likelihood(id, logprob, engine.tokenizer.bytes_of(id))

    assert step.chosen == likelihood(5, 0.25)
    assert step.likeliest == (likelihood(7, 0.5), likelihood(5, 0.25), likelihood(3, 0.125))


@pytest.mark.parametrize(("top", "chosen", "likeliest"), [(None, False, 0), (0, True, 0), (1000, True, 273)])
def test_logprobs_come_where_they_are_asked_for(engine, top, chosen, likeliest):
    assert engine.config.vocabulary == 273
    (step,) = steps(engine, Job((1, 2), 1, SamplingParams(), top_logprobs=top))
    assert (step.chosen is not None, len(step.likeliest)) == (chosen, likeliest)


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(),
        SamplingParams(temperature=1.5, seed=3),
        SamplingParams(repetition_penalty=3.0),
        SamplingParams(presence_penalty=2.0, frequency_penalty=2.0),
    ],
)
def test_a_prompt_in_chunks_gives_the_tokens_of_the_engine(engine, sampling):
    """With penalties too: the sampler sees the chunks that were computed before the last one."""
    alone = engine.generate(LONG, sampling, max_tokens=12, chunks=(CHUNK,))
    computed = [step for step in steps(engine, Job(LONG, 12, sampling)) if step]
    assert [(s.id, s.text, s.counters, s.finish) for s in computed] == [
        (t.id, t.text, t.counters, t.finish) for t in alone
    ]


@pytest.mark.parametrize("length", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1])
def test_each_step_is_one_forward_of_at_most_a_chunk(engine, length):
    sizes = []
    watched = engine.with_backend(Watched(engine.backend, lambda tokens: sizes.append(len(tokens))))
    job = Job(LONG[:length], 1, SamplingParams())
    for count, _ in enumerate(steps(watched, job), start=1):
        assert watched.backend.forwards == count
    assert len(sizes) == forwards(job)
    assert sum(sizes) == length
    assert max(sizes) <= CHUNK


def test_the_cache_is_made_by_the_first_step_and_gone_with_the_last(engine):
    watched = engine.with_backend(Watched(engine.backend))
    running = steps(watched, Job((1, 2), 2, SamplingParams()))
    assert watched.backend.caches == []
    next(running)
    assert watched.backend.live_caches() == 1
    running.close()
    assert watched.backend.live_caches() == 0


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"prompt": ()}, RequestError, "prompt is empty"),
        ({"prompt": (1, 273)}, RequestError, "prompt has 273, expected token ids from 0 to 272"),
        ({"max_tokens": 0}, RequestError, "max_tokens is 0"),
        ({"max_tokens": TinyModel().context}, ContextOverflow, "prompt of 1 tokens and max_tokens 256"),
        ({"stop": ("",)}, RequestError, "stop has an empty text"),
        ({"top_logprobs": -1}, RequestError, "top_logprobs is -1"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(engine, changed, error, message):
    job = Job(**({"prompt": (1,), "max_tokens": 1, "sampling": SamplingParams()} | changed))
    with pytest.raises(error, match=message):
        check(engine, job)
