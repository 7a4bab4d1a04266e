"""llama.cpp's own server, started for a target: what it answers, faults of the file and of the wire."""

import pytest

from refute.faults.base import Fault
from refute.select import embedded_model
from refute.targets import llama_server
from refute.targets.base import Request, TargetError
from refute.targets.llama_cpp import LlamaCppTarget
from refute.wire.answers import Answer
from refute.wire.client import get, post

served = pytest.mark.skipif(
    not llama_server.serves(), reason="llama-cpp-python[server] is not installed: refute[peer] brings it"
)
PROMPT = "def main():\n    return "


@pytest.fixture(scope="module")
def target():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "API_KEY": "k",
            "HOST": "203.0.113.1",
            "PORT": "1",
            "CONFIG_FILE": "none",
        }.items():
            patch.setenv(name, value)  # which are other programs'
        target = LlamaCppTarget(embedded_model(), threads=1)
        _ = target.endpoint
    yield target
    target.close()


def ask(target, **fields):
    body = {"model": target.endpoint.model, "prompt": PROMPT, "max_tokens": 8, "temperature": 0, **fields}
    return Answer.of_reply(post(target.endpoint, "/completions", body))


@served
def test_it_answers_as_the_library_does(target) -> None:
    assert target.endpoint.model == "pocket"
    assert target.capabilities >= {"http", "http_seed", "http_logprobs"}
    assert not target.capabilities & {"http_tools", "http_counters"}
    asked = {"repeat_penalty": 1.0}  # it penalises repetitions where it is not told so
    whole, streamed = ask(target, **asked), ask(target, **asked, stream=True)
    assert whole.text == streamed.text == target.generate(Request(target.encode(PROMPT), 8)).text
    assert (streamed.done, streamed.finish, whole.completion_tokens) == (True, "length", 8)


@served
def test_a_seed_is_kept_and_none_draws_anew(target) -> None:
    sampled = {"temperature": 1.5, "max_tokens": 16}
    one, same, other = (ask(target, **sampled, seed=seed).text for seed in (1, 1, 2))
    assert one == same != other
    assert ask(target, **sampled).text != ask(target, **sampled).text


@served
def test_log_probabilities_come_with_the_tokens(target) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "temperature": 0}
    asked = {"logprobs": True, "top_logprobs": 3}
    answer = Answer.of_reply(post(target.endpoint, "/chat/completions", {"model": "pocket", **body, **asked}))
    assert answer.served
    assert all(len(token["top_logprobs"]) == 3 for token in answer.logprobs)


@served
def test_a_fault_of_the_file_is_served_by_a_server_of_its_own(target) -> None:
    with target.plant(Fault("experts-swapped", 1000)) as faulty:
        endpoint = faulty.endpoint
        assert endpoint.base != target.endpoint.base
        assert ask(faulty).text != ask(target).text
    with pytest.raises(TargetError, match="cannot reach"):
        get(endpoint, "/models")


@served
def test_a_fault_of_the_wire_is_in_front_of_the_server(target) -> None:
    with target.plant(Fault("wire-done-dropped", 1)) as faulty:
        there, here = ask(faulty, stream=True), ask(target, stream=True)
    assert (there.done, here.done) == (False, True)
    assert there.text == here.text
