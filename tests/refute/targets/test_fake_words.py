"""The toy language model of the simulated server."""

import codecs
import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute.targets.fake_words import END, VOCABULARY, Prompt, Settings, answer

PROMPT = Prompt(tuple(b"Hello"))
GREEDY = Settings(temperature=0)

prompts = st.builds(
    Prompt,
    st.binary(min_size=1, max_size=8).map(tuple),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
settings_of = st.builds(
    Settings,
    temperature=st.sampled_from([0, 0.5, 1.0, 2.0]),
    top_k=st.integers(0, 5),
    top_p=st.sampled_from([0.01, 0.5, 1.0]),
    min_p=st.sampled_from([0.0, 0.2, 1.0]),
    repetition_penalty=st.sampled_from([0.01, 1.0, 100.0]),
    presence_penalty=st.sampled_from([-2.0, 0.0, 2.0]),
    frequency_penalty=st.sampled_from([-2.0, 0.0, 2.0]),
)


def drawn(prompt, settings, seed=0, most=24):
    return list(itertools.islice(answer(prompt, settings, random.Random(seed)), most))


def tokens(*args, **more):
    return [step.token for step in drawn(*args, **more)]


def said(ids):
    return b"".join(VOCABULARY[token] for token in ids)


@given(prompts, settings_of, st.integers(0, 9))
def test_only_whole_characters_are_said_but_for_the_last(prompt, settings, seed) -> None:
    codecs.getincrementaldecoder("utf-8")("strict").decode(said(tokens(prompt, settings, seed)))


@given(prompts, settings_of, st.integers(0, 9))
def test_a_draw_depends_on_what_is_there_and_on_nothing_else(prompt, settings, seed) -> None:
    assert tokens(prompt, settings, seed) == tokens(prompt, settings, seed)


@given(prompts, settings_of)
def test_scores_are_a_distribution(prompt, settings) -> None:
    for step in drawn(prompt, settings, most=8):
        chosen, *all_of_them = step.logprobs(len(VOCABULARY))
        logprobs = [logprob for _, logprob in all_of_them]
        assert chosen in all_of_them
        assert logprobs == sorted(logprobs, reverse=True)
        assert sum(map(math.exp, logprobs)) == pytest.approx(1)
        assert len({raw for raw, _ in all_of_them}) == len(VOCABULARY)


@given(prompts)
def test_greedy_takes_the_likeliest(prompt) -> None:
    for step in drawn(prompt, GREEDY):
        chosen, first = step.logprobs(1)
        assert chosen == first


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}, {"temperature": 1e-6}])
def test_a_law_cut_to_one_token_is_greedy(narrow) -> None:
    assert tokens(PROMPT, Settings(**narrow)) == tokens(PROMPT, GREEDY)


def test_top_k_and_min_p_and_top_p_keep_the_likeliest() -> None:
    for seed in range(8):
        for step in drawn(PROMPT, Settings(temperature=2, top_k=3), seed):
            (chosen, _), *likeliest = step.logprobs(3)
            assert chosen in [raw for raw, _ in likeliest]
        for step in drawn(PROMPT, Settings(min_p=0.3), seed):
            (_, chosen), (_, first) = step.logprobs(1)
            assert chosen >= first + math.log(0.3) - 1e-9
        for step in drawn(PROMPT, Settings(top_p=0.6), seed):
            (chosen, _), *ranked = step.logprobs(20)
            above = list(itertools.takewhile(lambda named, chosen=chosen: named[0] != chosen, ranked))
            assert sum(math.exp(logprob) for _, logprob in above) < 0.6


def test_draws_follow_the_probabilities() -> None:
    first = drawn(PROMPT, Settings())[0]
    (likeliest, logprob), *_ = first.logprobs(1)[1:]
    count = sum(said(tokens(PROMPT, Settings(), seed, most=1)) == likeliest for seed in range(1000))
    assert count / 1000 == pytest.approx(math.exp(logprob), abs=0.05)


def words(settings):
    """The words of some answers."""
    prompts = [Prompt((number,)) for number in range(8)]
    return [[token for token in tokens(prompt, settings, most=32) if token > END] for prompt in prompts]


def test_an_answer_repeats_words() -> None:
    assert any(len(set(each)) < len(each) for each in words(GREEDY))


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty", "repetition_penalty"])
def test_who_is_punished_enough_repeats_no_word(penalty) -> None:
    punished = words(replace(GREEDY, **{penalty: 100.0}))
    assert all(len(set(each)) == len(each) for each in punished)
    assert sum(map(len, punished)) > 40


def test_only_the_repetition_penalty_counts_the_prompt() -> None:
    asked = [Prompt((*range(256), number)) for number in range(16)]  # holds all tokens that are bytes

    def first(**penalty):
        return [tokens(each, replace(GREEDY, **penalty), most=1)[0] for each in asked]

    assert min(first()) < END
    assert first(presence_penalty=100.0) == first(frequency_penalty=100.0) == first()
    assert min(first(repetition_penalty=100.0)) > END


def test_seeds_draw_different_answers_that_are_long_and_have_characters_of_many_bytes() -> None:
    answers = [tokens(PROMPT, Settings(), seed, most=16) for seed in range(60)]
    assert len(set(map(tuple, answers))) == 60
    assert sum(not said(each).isascii() for each in answers) >= 57
    ended = sum(each[-1] == END for each in answers)
    assert 0 < ended < 20


def test_another_prompt_is_answered_otherwise() -> None:
    assert tokens(PROMPT, GREEDY) != tokens(Prompt(tuple(b"Hello!")), GREEDY)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_a_text_is_repeated_when_it_is_asked_for(text) -> None:
    wanted = [*text.encode(), END]
    assert tokens(Prompt((1,), text), GREEDY, most=99) == wanted
    for seed in range(3):
        assert tokens(Prompt((1,), text, sure=True), Settings(temperature=2), seed, most=99) == wanted


def test_what_is_to_be_repeated_leaves_a_choice_above_temperature_0() -> None:
    asked = Prompt((1,), "river stone")
    assert len({tuple(tokens(asked, Settings(), seed)) for seed in range(20)}) == 20
