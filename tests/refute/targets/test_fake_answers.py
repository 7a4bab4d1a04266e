"""What the simulated engine's server says, streamed and whole."""

import math

import pytest
from fake_asking import OF_ANSWERS, OF_LIKELIHOODS, OF_USAGE, TARGET, ask, complete, only
from hypothesis import given, settings
from hypothesis import strategies as st

from refute.targets.fake import FakeTarget
from refute.wire.answers import DONE

requests = st.fixed_dictionaries(
    {
        "content": st.sampled_from(["Hello", "é", "Repeat: a river 🙂🙂 of light"]),
        "temperature": st.sampled_from([0, 1, 2]),
        "seed": st.integers(-3, 3),
        "max_tokens": st.integers(1, 24),
        "stop": st.lists(
            st.sampled_from([" ", "a", "🙂", " river", "of light", "中", "r 🙂🙂 o"]), max_size=4
        ),
        "logprobs": st.booleans(),
    }
)


@settings(max_examples=40)
@given(requests)
def test_a_stream_says_what_the_whole_answer_says(asked) -> None:
    whole = ask(**asked)
    streamed = ask(**asked, stream=True, stream_options={"include_usage": True})
    assert whole.served
    assert (streamed.text, streamed.finish, streamed.usage, streamed.logprobs) == (
        whole.text,
        whole.finish,
        whole.usage,
        whole.logprobs,
    )
    assert not any(stop in whole.text for stop in asked["stop"])


@settings(max_examples=40)
@given(requests, st.booleans())
def test_a_stream_has_the_form_of_one(asked, usage) -> None:
    answer = ask(**asked, stream=True, **({"stream_options": {"include_usage": True}} if usage else {}))
    assert (answer.reply.status, answer.reply.content_type) == (200, "text/event-stream")
    assert answer.reply.events[-1].data == DONE
    chunks = [chunk for _, chunk in answer.chunks]
    assert len(chunks) == len(answer.reply.events) - 1
    assert all(chunk.keys() >= OF_ANSWERS and "refute" not in chunk for chunk in chunks)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    if usage:
        assert (chunks[-1]["choices"], chunks[-1]["usage"].keys()) == ([], OF_USAGE)
        assert all(chunk["usage"] is None for chunk in chunks[:-1])
        chunks = chunks[:-1]
    else:
        assert not any("usage" in chunk for chunk in chunks)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert len(choices) == len(chunks)
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert all(choice["delta"].keys() == {"content"} for choice in choices[1:-1])
    assert choices[-1]["delta"] == {}
    *before, last = [choice["finish_reason"] for choice in choices]
    assert set(before) == {None}
    assert last in {"stop", "length"}


def test_every_token_that_completes_text_is_an_event() -> None:
    answer = ask("Repeat: é, a river 🙂", temperature=0, stream=True, logprobs=True, max_tokens=99)
    assert answer.texts == tuple("é, a river 🙂")
    raw = [bytes(token["bytes"]) for token in answer.logprobs]
    assert raw == [bytes([byte]) for byte in "é, a river 🙂".encode()] + [b""]


@pytest.mark.parametrize("stream", [True, False])
def test_a_stop_text_ends_the_answer_before_it_wherever_tokens_are_cut(stream) -> None:
    asked = {"content": "Repeat: a river 🙂🙂 of light", "temperature": 0, "max_tokens": 99, "stream": stream}
    usual = ask(**asked)
    assert (usual.text, usual.finish) == ("a river 🙂🙂 of light", "stop")
    assert ask(**asked, stop="r 🙂🙂 o").text == "a rive"
    assert ask(**asked, stop=["light", "🙂 "]).text == "a river 🙂"
    assert ask(**asked, stop=["🙂🙂🙂", "lights"]).text == usual.text  # begun, but not come
    assert ask(**asked, stop="a").text == ""
    cut = ask(**{**asked, "max_tokens": 3}, stop="rx")
    assert (cut.text, cut.finish) == ("a r", "length")  # what was held is told at the end


def test_a_character_that_is_not_whole_at_the_end_is_marked() -> None:
    answer = ask("Repeat: 🙂🙂", temperature=0, max_tokens=5)
    assert answer.text == "🙂\ufffd"


def test_seeds() -> None:
    def texts(*seeds, temperature=1):
        return {ask(max_tokens=16, temperature=temperature, seed=seed).text for seed in seeds}

    assert len(texts(1, 1, 1)) == len(texts(-1, -1)) == 1
    assert len(texts(*range(-5, 5))) == 10
    assert len(texts(*[None] * 10)) == 10
    assert len(texts(None, None, 1, 2, temperature=0)) == 1


def test_answers_without_a_seed_follow_from_the_target() -> None:
    def texts(seed):
        target = FakeTarget(seed)
        return [ask(target=target).text for _ in range(3)]

    assert texts(1) == texts(1) != texts(2)


def test_what_was_likely() -> None:
    for temperature in (0, 1):
        answer = ask(temperature=temperature, logprobs=True, top_logprobs=20)
        raw = b"".join(bytes(token["bytes"]) for token in answer.logprobs)
        assert raw.decode("utf-8", "replace") == answer.text
        assert len(answer.logprobs) == answer.completion_tokens
        for token in answer.logprobs:
            top = token["top_logprobs"]
            assert token.keys() == OF_LIKELIHOODS
            assert all(each.keys() == OF_LIKELIHOODS - {"top_logprobs"} for each in top)
            assert [each["logprob"] for each in top] == sorted((e["logprob"] for e in top), reverse=True)
            assert len(top) == 20
            assert 0.9 < sum(math.exp(each["logprob"]) for each in top) <= 1 + 1e-9
            if temperature == 0:
                assert (token["token"], token["logprob"]) == (top[0]["token"], top[0]["logprob"])
    assert all(not token["top_logprobs"] for token in ask(logprobs=True).logprobs)


def test_the_older_route() -> None:
    asked = {"prompt": "Repeat: é🙂 river", "temperature": 0, "max_tokens": 9, "logprobs": 2}
    value = only(complete(**asked))
    (choice,) = value["choices"]
    assert value.keys() >= OF_ANSWERS
    assert value["object"] == "text_completion"
    assert (choice["text"], choice["finish_reason"]) == ("é🙂 ri", "length")
    told = choice["logprobs"]
    assert told["tokens"][:6] == [f"bytes:\\x{byte:02x}" for byte in "é🙂".encode()]
    assert told["text_offset"] == [0, 0, 1, 1, 1, 1, 2, 3, 4]
    named = zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True)
    assert all(top[token] == logprob == max(top.values()) and len(top) == 2 for token, logprob, top in named)
    streamed = complete(**asked, stream=True)
    assert streamed.text == choice["text"]
    pieces = [chunk["choices"][0] for _, chunk in streamed.chunks]
    assert [piece["finish_reason"] for piece in pieces] == [None] * (len(pieces) - 1) + ["length"]
    for name, values in told.items():
        assert [each for piece in pieces if piece["logprobs"] for each in piece["logprobs"][name]] == values
    assert complete("x").completion_tokens <= 16  # as the API has it where nothing is said
    ids = list(b"Hello")
    assert complete(ids, temperature=0).text == complete("Hello", temperature=0).text


def test_usage_counts_tokens() -> None:
    content = "Grüße"
    usage = ask(content, max_tokens=5, temperature=0).usage
    prompt = len(TARGET.encode_chat([{"role": "user", "content": content}]))
    assert usage == {"prompt_tokens": prompt, "completion_tokens": 5, "total_tokens": prompt + 5}


def test_an_answer_ends_by_itself_or_at_its_most_tokens() -> None:
    answers = [ask(max_tokens=40, seed=seed) for seed in range(30)]
    assert {answer.finish for answer in answers} == {"stop", "length"}
    for answer in answers:
        assert (answer.finish == "length") <= (answer.completion_tokens == 40)
        assert answer.text
    assert ask("Repeat: " + "a" * 30, max_tokens=None, max_completion_tokens=7).completion_tokens == 7
    assert ask("Repeat: " + "a" * 30, max_tokens=None, temperature=0).completion_tokens == 31
