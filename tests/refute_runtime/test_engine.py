import numpy as np
import pytest
from tiny_gguf import TinyModel, write_tiny

import refute_runtime.engine
from refute_runtime import Engine, SamplingParams
from refute_runtime.errors import ContextOverflow, FormatError, RequestError, RuntimeFailure
from refute_runtime.model import Counters

PROMPT = (104, 101, 108, 108, 111, 32, 116)
CONTEXT = TinyModel().context


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("engine") / "m.gguf")


@pytest.fixture(scope="module")
def engine(path):
    with Engine.load(path, "array", "cpu") as loaded:
        yield loaded


class Counting:
    """A backend that counts forwards by their embeddings."""

    def __init__(self, inner):
        self.inner, self.forwards = inner, 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def embed(self, tokens):
        self.forwards += 1
        return self.inner.embed(tokens)


class Scripted:
    """A sampler that says what it is told."""

    def __init__(self, *tokens):
        self.tokens, self.histories = list(tokens), []

    def next(self, logits, history):
        self.histories.append(tuple(history))
        return self.tokens.pop(0)


@pytest.fixture
def counting(engine):
    return engine.with_backend(Counting(engine.backend))


def ids(tokens):
    return [token.id for token in tokens]


def test_the_cache_gives_the_tokens_of_the_slow_twin(engine):
    cached = list(engine.generate(PROMPT, max_tokens=12, stop=False))
    twin = list(engine.generate(PROMPT, max_tokens=12, stop=False, twin=True))
    assert ids(cached) == ids(twin)
    np.testing.assert_allclose([t.margin for t in cached], [t.margin for t in twin], atol=1e-4)


@pytest.mark.parametrize("chunks", [(1,), (3,), (2, 1, 9), (100,)])
def test_chunked_prefill_gives_the_tokens_of_one_chunk(engine, chunks):
    whole = engine.generate(PROMPT, max_tokens=6, stop=False)
    assert ids(engine.generate(PROMPT, max_tokens=6, stop=False, chunks=chunks)) == ids(whole)


@pytest.mark.parametrize(
    ("chunks", "sizes"), [((), [7]), ((3,), [3, 3, 1]), ((2, 4), [2, 4, 1]), ((5, 1), [5, 1, 1])]
)
def test_chunks_are_taken_in_order_and_the_last_one_repeats(engine, chunks, sizes):
    class Sizes(Counting):
        def embed(self, tokens):
            seen.append(len(tokens))
            return super().embed(tokens)

    seen = []
    list(engine.with_backend(Sizes(engine.backend)).generate(PROMPT, max_tokens=3, stop=False, chunks=chunks))
    assert seen == [*sizes, 1, 1]


def test_counters_of_each_token_cover_its_own_forwards(engine):
    first, second, _ = engine.generate(PROMPT, max_tokens=3, stop=False, chunks=(4,))
    assert first.counters == Counters(2, 4, 0, 2 * 7 * 3, 2 * 4, 0)
    assert second.counters == Counters(1, 2, 0, 2 * 3, 2 * 7, 0)


def test_the_twin_reads_no_cache(engine):
    tokens = list(engine.generate(PROMPT, max_tokens=3, stop=False, twin=True))
    assert [t.counters.cache_positions_read for t in tokens] == [0, 0, 0]
    assert [t.counters.experts_run for t in tokens] == [2 * 3 * n for n in (7, 8, 9)]


def test_nothing_is_computed_before_a_token_is_asked_for(counting):
    stream = counting.generate(PROMPT, max_tokens=5, stop=False)
    assert counting.backend.forwards == 0
    next(stream)
    assert counting.backend.forwards == 1
    next(stream)
    assert counting.backend.forwards == 2


def test_closing_the_generator_stops_the_computing(counting):
    stream = counting.generate(PROMPT, max_tokens=50, stop=False)
    next(stream)
    stream.close()
    assert counting.backend.forwards == 1
    assert list(stream) == []


def test_a_callback_that_returns_false_stops_the_computing(counting):
    seen = []

    def on_token(token):
        seen.append(token.id)
        return len(seen) < 3

    tokens = list(counting.generate(PROMPT, max_tokens=50, stop=False, on_token=on_token))
    assert ids(tokens) == seen
    assert counting.backend.forwards == 3


def test_a_callback_that_returns_nothing_stops_nothing(engine):
    assert len(list(engine.generate(PROMPT, max_tokens=4, stop=False, on_token=lambda _: None))) == 4


def test_a_stop_token_is_the_last_and_has_no_text(engine):
    (end,) = sorted(engine.tokenizer.stop_ids)[-1:]
    tokens = list(engine.generate(PROMPT, max_tokens=9, sampler=Scripted(104, 105, end)))
    seen = [(t.id, t.text, t.finish) for t in tokens]
    assert seen == [(104, "h", None), (105, "i", None), (end, "", "stop")]


def test_with_stop_off_a_stop_token_ends_nothing(engine):
    (end,) = sorted(engine.tokenizer.stop_ids)[-1:]
    tokens = list(engine.generate(PROMPT, max_tokens=3, sampler=Scripted(end, end, 104), stop=False))
    assert [t.finish for t in tokens] == [None, None, "length"]


def test_a_character_is_given_out_whole(engine):
    halves = [engine.tokenizer.bytes_of(i) for i in range(256)]
    first, second = halves.index(b"\xc3"), halves.index(b"\xb6")  # o with two dots
    tokens = list(engine.generate(PROMPT, max_tokens=3, sampler=Scripted(first, second, first)))
    assert [t.text for t in tokens] == ["", "\u00f6", "\ufffd"]


def test_the_sampler_sees_prompt_and_answer(engine):
    sampler = Scripted(104, 105)
    list(engine.generate(PROMPT, max_tokens=2, sampler=sampler))
    assert sampler.histories == [PROMPT, (*PROMPT, 104)]


def test_a_seed_repeats_an_answer_and_another_one_does_not(engine):
    def answer(seed):
        params = SamplingParams(temperature=2.0, seed=seed)
        return ids(engine.generate(PROMPT, params, max_tokens=12, stop=False))

    assert answer(1) == answer(1)
    assert answer(1) != answer(2)


def test_the_size_of_a_cache_is_known_before_it_is_made(engine):
    assert engine.backend.cache_row_bytes * 40 == engine.new_cache(40).nbytes


def test_a_cache_continues_where_it_stands(engine):
    cache = engine.new_cache(40)
    first = ids(engine.generate(PROMPT, max_tokens=4, cache=cache, stop=False))
    assert cache.length == len(PROMPT) + 3  # the last token has not been through the model
    more = ids(engine.generate((first[-1], 97), max_tokens=3, cache=cache, stop=False))
    assert more == ids(engine.generate((*PROMPT, *first, 97), max_tokens=3, stop=False))


def test_times_come_from_the_clock(engine):
    ticks = iter(range(100))
    tokens = list(engine.generate(PROMPT, max_tokens=3, stop=False, clock=lambda: next(ticks)))
    assert [(t.prefilled_ns, t.time_ns) for t in tokens] == [(0, 1), (0, 2), (0, 3)]


def test_margin_is_the_distance_of_the_two_highest_logits(engine):
    (token,) = engine.generate(PROMPT, max_tokens=1)
    logits = np.sort(engine.model.forward(PROMPT, engine.new_cache(7)).logits[0])
    assert token.margin == pytest.approx(float(logits[-1] - logits[-2]))


def test_routing_is_of_the_position_that_gave_the_token(engine):
    tokens = list(engine.generate(PROMPT, max_tokens=2, stop=False, routing=True, chunks=(3,)))
    every = engine.model.forward((*PROMPT, tokens[0].id), engine.new_cache(8), routing=True).routing
    for token, position in zip(tokens, (6, 7), strict=True):
        assert token.routing.experts == tuple(tuple(layer.experts[position].tolist()) for layer in every)
        np.testing.assert_allclose(token.routing.gaps, [layer.gap[position] for layer in every], atol=1e-5)
    assert next(engine.generate(PROMPT, max_tokens=1)).routing is None


def test_a_wrapped_backend_shares_the_rest(engine, counting):
    assert counting.weights is engine.weights
    assert counting.tokenizer is engine.tokenizer
    assert ids(counting.generate(PROMPT, max_tokens=4, stop=False)) == ids(
        engine.generate(PROMPT, max_tokens=4, stop=False)
    )


def test_context_overflow_comes_before_any_computing(counting):
    with pytest.raises(
        ContextOverflow, match=f"prompt of 7 tokens and max_tokens {CONTEXT} .* at most {CONTEXT}"
    ):
        counting.generate(PROMPT, max_tokens=CONTEXT)
    assert counting.backend.forwards == 0


def test_the_last_position_may_be_used(engine):
    tokens = engine.generate((1,) * (CONTEXT - 2), max_tokens=2, stop=False)
    assert len(list(tokens)) == 2


def test_a_cache_too_small_overflows_before_any_computing(counting):
    cache = counting.new_cache(12)
    list(counting.generate(PROMPT, max_tokens=1, cache=cache))
    with pytest.raises(
        ContextOverflow, match="after 7 tokens in the cache need 13 positions, expected at most 12"
    ):
        counting.generate((5, 6), max_tokens=4, cache=cache)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"prompt": ()}, "prompt is empty"),
        ({"prompt": (1, -1)}, "prompt has -1"),
        ({"prompt": (10**6,)}, "prompt has 1000000"),
        ({"prompt": (1.5,)}, "prompt has 1.5"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": True}, "max_tokens is True"),
        ({"max_tokens": 2.0}, "max_tokens is 2.0"),
        ({"chunks": (3, 0)}, "chunks is 0"),
        ({"chunks": (3,), "twin": True}, "twin takes neither cache nor chunks"),
    ],
)
def test_a_request_out_of_range_names_the_field(engine, request_, message):
    with pytest.raises(RequestError, match=message):
        engine.generate(**({"prompt": PROMPT, "max_tokens": 4} | request_))


def test_logits_that_are_no_numbers_are_a_failure(tmp_path):
    values = {"output_norm.weight": np.full(64, np.nan, np.float32)}
    with (
        Engine.load(write_tiny(tmp_path / "m.gguf", values=values), "array") as broken,
        pytest.raises(RuntimeFailure, match="nan"),
    ):
        list(broken.generate(PROMPT, max_tokens=1))


def test_settings_say_how_it_computes(engine):
    assert engine.settings["backend"] == "array"
    assert engine.settings["device"] == "cpu"
    assert engine.settings["numerics"] == "f32"


def test_the_digest_changes_with_the_sources(engine, path, monkeypatch, tmp_path):
    assert engine.digest == Engine.load(path, "array").digest
    monkeypatch.setattr(refute_runtime.engine, "__file__", str(tmp_path / "engine.py"))
    found = {engine.digest}
    for source in ("engine.py", "kernels.cu", "common.cuh"):
        (tmp_path / source).write_text("other")
        found.add(Engine.load(path, "array").digest)
    assert len(found) == 4


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"not a model")
    with pytest.raises(FormatError, match=r"m\.gguf"):
        Engine.load(tmp_path / "m.gguf", "array")


def test_chat_renders_with_the_files_template(engine):
    rendered = engine.template.encode([{"role": "user", "content": "hello"}])
    assert engine.tokenizer.decode(rendered) == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
