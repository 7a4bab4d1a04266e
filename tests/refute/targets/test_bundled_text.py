"""Text in the bundled runtime: streams, chats, special tokens, faults of the tokenizer, token references."""

from importlib.resources import as_file, files

import pytest
from tiny_gguf import write_tiny

from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.targets.base import Request, TargetError
from refute.targets.bundled import BundledTarget

CHAT = [{"role": "user", "content": "a<|im_end|>"}]


@pytest.fixture(scope="module")
def pocket():
    with as_file(files("refute_runtime") / "pocket" / "pocket.gguf") as path:
        target = BundledTarget(path, "array", "cpu")
        yield target
        target.close()


def test_streamed_text_waits_for_whole_characters(pocket) -> None:
    assert pocket.stream_decode(pocket.encode("aé")) == ["a", "", "é", ""]
    assert pocket.stream_decode(pocket.encode("é")[:1]) == ["", "\ufffd"]


def test_special_tokens_in_a_chat_come_from_the_template(pocket) -> None:
    special = {token: text for text, token in pocket.special_tokens.items()}
    found = [special[token] for token in pocket.encode_chat(CHAT) if token in special]
    assert found == ["<|im_start|>", "<|im_end|>", "<|im_start|>"]


def test_lone_surrogates_are_refused_and_the_next_text_is_served(pocket) -> None:
    with pytest.raises(TargetError, match=r"lone surrogate U\+D800 at character 1"):
        pocket.encode("a\ud800")
    with pytest.raises(TargetError, match=r"lone surrogate"):
        pocket.encode_chat([{"role": "user", "content": "\udfff"}])
    assert pocket.decode(pocket.encode("a")) == "a"
    assert pocket.encode_chat(CHAT)


@pytest.mark.parametrize("call", ["decode", "stream_decode"])
def test_unknown_ids_are_refused_and_the_next_are_served(call, pocket) -> None:
    with pytest.raises(TargetError, match="token id 99999999 is out of range"):
        getattr(pocket, call)([99_999_999])
    assert "".join(getattr(pocket, call)(pocket.encode("a"))) == "a"


def test_forged_special_tokens_reach_text_and_chat(pocket) -> None:
    end = pocket.special_tokens["<|im_end|>"]
    with pocket.plant(Fault("special-forged", 1000)) as faulty:
        assert faulty.encode("a<|im_end|>") == (*pocket.encode("a"), end)
        assert faulty.encode_chat(CHAT).count(end) == pocket.encode_chat(CHAT).count(end) + 1
        assert pocket.encode_chat(CHAT).count(end) == 1


def test_text_that_is_not_composed_keeps_its_marks(pocket) -> None:
    with pocket.plant(Fault("nfc-skipped", 1)) as faulty:
        assert faulty.decode(faulty.encode("e\u0301")) == "e\u0301"
        assert faulty.identity == pocket.identity
    assert pocket.decode(pocket.encode("e\u0301")) == "é"


def test_faults_of_the_tokenizer_reach_the_text_of_answers(pocket) -> None:
    request = Request(pocket.encode("def f(x):\n    return"), 4)
    honest = pocket.generate(request)
    with pocket.plant(Fault("byte-lost", 200)) as faulty:  # all from 0x2D to 0xF4
        answer = faulty.generate(request)
    assert answer.tokens == honest.tokens
    assert answer.text != honest.text


def test_faults_of_the_tokenizer_spare_the_tokens_of_answers(pocket) -> None:
    request = Request(tuple(pocket.ordinary_tokens[:16]), 2, margins=True)
    honest = pocket.generate(request)
    for name in (name for name, spec in FAULTS.items() if spec.seam == "tokenizer"):
        with pocket.plant(Fault(name, FAULTS[name].default)) as faulty:
            answer = faulty.generate(request)
        assert (answer.tokens, answer.margins) == (honest.tokens, honest.margins)


def test_a_model_without_a_template_has_no_chat(path) -> None:
    mute = path.with_name("mute.gguf")
    target = BundledTarget(write_tiny(mute, overrides={"tokenizer.chat_template": None}), "array", "cpu")
    assert "chat" not in target.capabilities
    with pytest.raises(TargetError, match=r"chat_template is missing"):
        target.encode_chat(CHAT)
    target.close()


def test_a_model_without_vectors_has_no_token_reference(target) -> None:
    assert "token_reference" not in target.capabilities
    with pytest.raises(TargetError, match=r"no token vectors of tiny\.gguf"):
        _ = target.token_reference


def test_vectors_that_cannot_be_read_are_told_where_they_are_needed(path) -> None:
    model = write_tiny(path.with_name("vectors.gguf"))
    model.with_suffix(".tokens.json").write_text("{", encoding="utf-8")
    target = BundledTarget(model, "array", "cpu", model_sha256="ab" * 32)
    assert "token_reference" in target.capabilities
    with pytest.raises(TargetError, match=r"vectors\.tokens\.json: not JSON"):
        _ = target.token_reference
    assert target.encode("a")
    target.close()


def test_messages_become_a_prompt_as_the_file_has_it(target) -> None:
    prompt = target.encode_chat([{"role": "user", "content": "hello"}])
    assert target.decode(prompt).count("hello") == 1
    assert len(prompt) > len(target.encode("hello"))
