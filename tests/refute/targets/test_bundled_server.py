"""The bundled runtime over HTTP: its own process, and faults that act there as they do in process."""

import importlib.util
import threading

import pytest
from fault_reach import FLOOR
from tiny_gguf import TinyModel, write_tiny

from refute.faults import FAULTS
from refute.faults.backend import CountedForwards
from refute.faults.base import Fault
from refute.faults.planted import Planted
from refute.select import embedded_model
from refute.targets import bundled_server
from refute.targets.base import CAPABILITIES, CannotPlant, Request, Sampling, TargetError
from refute.targets.bundled import BundledTarget
from refute.wire.answers import Answer
from refute.wire.client import get, post
from refute_runtime.sampling import SamplingParams
from refute_runtime.serving.jobs import Job

HTTP = {name for name in CAPABILITIES if name.startswith("http")}
LAYERS = TinyModel().layers
TOKENS = 12
# one chunk of the server's, so that the engine is asked over HTTP just what it is asked in process
SAMPLED = Sampling(temperature=2.0, top_k=200, repetition_penalty=2.0, seed=3)
GREEDY = Sampling()
NOT_OVER_HTTP = {
    *("cache-ignored", "context-unchecked", "dense-on-some-routes", "empty-admitted", "fork-shared"),
    *("thread-race", "trim-short"),
    *(name for name, spec in FAULTS.items() if spec.seam in {"clock", "memory"}),
}
# Two or three of each kind of wrapper, and all samplers but those that draw anew each time.
SAME_TOKENS = [
    *("dense-dispatch", "routing-depends-on-cache", "logits-perturbed"),
    *("rope-position", "stale-row", "middle-rows-lost"),
    *("stream-buffered", "rope-base"),
    *("seed-fixed", "temperature-scaled", "top-k-widened", "penalty-twice", "penalty-ignored"),
    *("penalty-at-one", "penalty-per-occurrence", "penalty-sign", "penalty-window"),
]


@pytest.fixture(scope="module")
def prompt(target):
    return target.encode("hello world, the " * 3)


def ask(target, prompt, sampling=GREEDY, **fields):
    """The answer to a prompt of token ids, whole."""
    body = {
        "model": target.endpoint.model,
        "prompt": list(prompt),
        "max_tokens": TOKENS,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "repetition_penalty": sampling.repetition_penalty,
        "seed": sampling.seed,
        **fields,
    }
    return Answer.of_reply(post(target.endpoint, "/completions", body))


def did(answer):
    """What the engine counted for it."""
    return answer.chunks[-1][1]["refute"]["counters"]


def said(target, prompt, sampling):
    """The answer in process."""
    return target.generate(Request(prompt, TOKENS, sampling, stop=True)).text


def test_a_process_of_its_own_serves_the_same_model() -> None:
    target = BundledTarget(embedded_model(), "array", "cpu")
    endpoint = target.endpoint
    assert target.endpoint is endpoint
    assert endpoint.model == "pocket"
    prompt = target.encode("def main():")
    answer = ask(target, prompt, refute_counters=True)
    assert answer.text == said(target, prompt, GREEDY)
    assert did(answer)["forwards"] == TOKENS
    chat = {"model": "pocket", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
    assert Answer.of_reply(post(endpoint, "/chat/completions", chat)).served
    with target.plant(Fault("wire-usage-dropped", 1)) as faulty:
        asked = ask(faulty, prompt)
        assert (asked.text, asked.usage) == (answer.text, None)
    target.close()
    with pytest.raises(TargetError, match="cannot reach"):
        get(endpoint, "/models")


def test_a_model_that_is_gone_is_a_sentence(tmp_path) -> None:
    path = write_tiny(tmp_path / "gone.gguf")
    target = BundledTarget(path, "array", "cpu")
    path.unlink()
    with pytest.raises(TargetError, match=r"ended with exit status \d; it said: refute: .*gone.gguf"):
        _ = target.endpoint
    target.close()


def test_what_is_promised(target, monkeypatch) -> None:
    pocket = BundledTarget(embedded_model(), "array", "cpu")
    assert pocket.capabilities >= HTTP
    assert target.capabilities & HTTP == HTTP - {"http_tools"}  # its template knows no tools
    pocket.close()


def test_a_template_that_does_not_compile_takes_no_tools(tmp_path) -> None:
    path = tmp_path / "broken.gguf"
    write_tiny(path)
    raw = path.read_bytes()
    assert raw.count(b"{%- for") == 1
    path.write_bytes(raw.replace(b"{%- for", b"{%- fot"))
    target = BundledTarget(path, "array", "cpu")
    assert target.capabilities & HTTP == HTTP - {"http_tools"}
    target.close()


def test_without_what_the_server_is_made_of_there_is_no_server(path, monkeypatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(bundled_server, "find_spec", lambda name: None if name == "uvicorn" else real(name))
    target = BundledTarget(path, "array", "cpu")
    assert not target.capabilities & HTTP
    with pytest.raises(TargetError, match=r"refute\[serve\]"):
        _ = target.endpoint
    target.close()


@pytest.mark.parametrize("name", SAME_TOKENS)
def test_a_fault_acts_over_http_as_it_does_in_process(name, target, prompt) -> None:
    with target.plant(Fault(name, FAULTS[name].default), FLOOR) as faulty:
        for sampling in (GREEDY, SAMPLED):
            assert ask(faulty, prompt, sampling).text == said(faulty, prompt, sampling)


@pytest.mark.parametrize(
    ("fault", "sampling"),
    [
        (Fault("dense-dispatch", 1000), GREEDY),
        (Fault("weights-not-renormalised", 1000), GREEDY),
        (Fault("rope-position", 1), GREEDY),
        (Fault("temperature-scaled", 4), SAMPLED),
        (Fault("seed-fixed", 1), SAMPLED),
        (Fault("seed-ignored", 1), SAMPLED),
        (Fault("greedy-sampled", 2), GREEDY),
        (Fault("penalty-sign", 1), SAMPLED),
        (Fault("penalty-window", 1000), SAMPLED),
        (Fault("experts-swapped", 1000), GREEDY),
        (Fault("special-forged", 1000), None),
    ],
    ids=str,
)
def test_a_loud_fault_changes_the_answer_and_spares_the_target(fault, sampling, target, prompt) -> None:
    def told(asked):
        if sampling is None:  # of the tokenizer: how many tokens a text becomes
            body = {"model": asked.endpoint.model, "prompt": "<|im_end|>", "max_tokens": 1}
            return Answer.of_reply(post(asked.endpoint, "/completions", body)).usage["prompt_tokens"]
        return ask(asked, prompt, sampling, logprobs=0).chunks[0][1]["choices"][0]["logprobs"][
            "token_logprobs"
        ]

    honest = told(target)
    with target.plant(fault) as faulty:
        assert told(faulty) != honest
    assert told(target) == honest


def test_what_the_engine_counts_shows_the_fault(target, prompt) -> None:
    def counted(fault=None):
        if fault is None:
            return did(ask(target, prompt, refute_counters=True))
        with target.plant(fault) as faulty:
            counters = did(ask(faulty, prompt, refute_counters=True))
            streamed = ask(faulty, prompt, refute_counters=True, stream=True)
            assert streamed.streamed
        assert did(streamed) == counters  # each request has the fault from its beginning
        return counters

    honest = counted()
    assert (honest["forwards"], honest["dense_layers"]) == (TOKENS, 0)
    assert counted(Fault("guard-fires", 3)) == {**honest, "guards_fired": 3}
    assert set(counted(Fault("counters-stuck", 1000)).values()) == {0}
    assert counted(Fault("counters-stuck", 1))["forwards"] == TOKENS - 1
    dense = counted(Fault("dense-dispatch", 1))
    assert (dense["dense_layers"], dense["moe_layers"]) == (TOKENS, TOKENS * (LAYERS - 1))


def test_logits_that_are_no_numbers_are_an_error_of_the_server(target, prompt) -> None:
    with target.plant(Fault("logits-not-finite", 1)) as faulty:
        answer = ask(faulty, prompt)
    assert answer.reply.status == 500
    assert "finite" in answer.error["message"]


@pytest.mark.parametrize(("name", "computed"), [("stop-ignored", 1 + 4), ("stream-buffered", 1 + 8)])
def test_a_stream_fault_computes_what_nobody_asked_for(name, computed, target, prompt) -> None:
    """Whose client leaves after the first token."""
    engine = target._engine
    counting = CountedForwards(engine.backend)
    planted = Planted(Fault(name, FAULTS[name].default))
    job = Job(prompt, TOKENS, SamplingParams())
    steps = bundled_server._steps(lambda: engine.with_backend(counting), job, planted)
    assert next(steps).id == target.generate(Request(prompt, 1)).tokens[0]
    steps.close()
    assert counting.begun == computed


@pytest.mark.parametrize("name", sorted(NOT_OVER_HTTP))
def test_what_no_client_could_meet_is_not_served(name, target) -> None:
    with (
        target.plant(Fault(name, FAULTS[name].default), FLOOR) as faulty,
        pytest.raises(CannotPlant, match=f"{name}=.*: not over HTTP: "),
    ):
        _ = faulty.endpoint


def test_the_server_of_a_fault_ends_with_it(target) -> None:
    honest, before = target.endpoint, set(threading.enumerate())
    with target.plant(Fault("dense-dispatch", 1)) as faulty:
        assert set(threading.enumerate()) == before  # none yet
        endpoint = faulty.endpoint
        assert faulty.endpoint is endpoint
        assert endpoint.base != honest.base
        assert get(endpoint, "/models").status == 200
    assert set(threading.enumerate()) == before
    with pytest.raises(TargetError, match="cannot reach"):
        get(endpoint, "/models")


def test_an_answer_under_way_ends_with_the_fault(target, prompt) -> None:
    """Its weights are unmapped behind it."""
    began = threading.Event()
    with target.plant(Fault("tensor-scaled", 2)) as faulty:
        endpoint = faulty.endpoint
        body = {"model": endpoint.model, "prompt": list(prompt), "max_tokens": 200, "stream": True}
        replies = []

        def leaves(_events):
            began.set()
            return False

        asking = threading.Thread(
            target=lambda: replies.append(post(endpoint, "/completions", body, leaves=leaves))
        )
        asking.start()
        began.wait()
    asking.join()
    assert replies[0].events
