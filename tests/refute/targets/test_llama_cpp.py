"""llama.cpp as a target, on the embedded model: what it promises, and that faults of the file show."""

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from refute.contract import load_contract
from refute.faults.base import Fault
from refute.kinds import kind_named
from refute.select import embedded_model, select
from refute.targets.base import CAPABILITIES, CannotPlant, Refusal, Request, Sampling, TargetError
from refute.targets.bundled import BundledTarget
from refute.targets.llama_cpp import LlamaCppTarget
from refute.targets.scores import implementation
from refute.trials import sample
from refute.verdict import Outcome

installed = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None,
    reason="llama-cpp-python is not installed: no dependency of refute, needed to attack llama.cpp",
)
HELLO = "def main():\n    return "
LOUD = (
    Fault("rope-base", 10),
    Fault("router-scaled", 2),
    *(
        Fault(name, 1000)
        for name in ("qk-norm-ones", "kv-weights-permuted", "experts-swapped", "expert-zeroed")
    ),
)


@pytest.fixture(scope="module")
def target():
    return LlamaCppTarget(embedded_model(), model_sha256="of the file", threads=1)


@pytest.fixture(scope="module")
def bundled():
    target = BundledTarget(embedded_model(), "array", "cpu")
    yield target
    target.close()


@pytest.fixture(scope="module")
def prompt(bundled):
    return bundled.encode(HELLO)


def errors(target, prompts):
    """The largest error of a logit at each of the forced positions, which are decoded one by one."""
    found = []
    for forced in prompts:
        session = target.session(len(forced.prompt) + len(forced.answer), prompt=len(forced.prompt))
        rows = [session.extend(forced.prompt).logits[-1]]
        rows += [session.extend([token]).logits[0] for token in forced.answer]
        found.append(np.abs(np.stack(rows) - target.reference.scores(forced).logits).max(axis=1))
    return np.concatenate(found)


def test_without_the_library_it_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    selection = select(engine="llama-cpp", model=None, backend="array", device="auto", environ={})
    assert str(selection) == "llama.cpp on pocket.gguf (embedded)"
    with pytest.raises(TargetError, match="pip install llama-cpp-python"):
        selection.open()


@installed
def test_identity_is_the_librarys(target):
    identity = target.identity
    assert (identity.name, identity.engine, identity.architecture) == ("llama-cpp", "llama.cpp", "qwen3moe")
    assert (identity.layers, identity.moe_layers, identity.vocabulary) == (4, 4, 2048)
    assert len(identity.engine_digest) == 64
    assert identity.settings["threads"] == 1
    lacking = CAPABILITIES - target.capabilities
    assert {"counters", "routing", "f32", "tokenizer", "chat", "stream", "threads", "memory"} <= lacking
    assert {"sessions", "reference", "logits", "plant"} <= target.capabilities


@installed
def test_reference_is_another_implementation(target, bundled):
    identity = target.reference.identity
    assert identity != implementation(target.identity)
    assert identity == implementation(bundled.identity)


@installed
@pytest.mark.parametrize("text", [HELLO, "Hello, 世界! é <|im_start|>", ""])
def test_tokens_are_those_of_the_bundled_runtime(text, target, bundled):
    assert target.encode(text) == bundled.encode(text)
    assert target.decode(target.encode(text)) == text
    assert list(target.ordinary_tokens) == list(bundled.ordinary_tokens)


@installed
@pytest.mark.parametrize("change", [{}, {"cache": False}, {"chunks": (3, 2)}])
def test_greedy_answers_are_those_of_the_bundled_runtime(change, target, bundled, prompt):
    request = Request(prompt, 8, margins=True, **change)
    ours, theirs = target.generate(request), bundled.generate(request)
    assert ours.tokens == theirs.tokens
    assert ours.margins == pytest.approx(theirs.margins, abs=1.0)
    times = [ours.started_ns, ours.prefilled_ns, *ours.token_ns]
    assert all(before <= after for before, after in pairwise(times))


@installed
def test_a_seed_gives_the_same_answer_and_another_one_another(target, prompt):
    one, same, other = (
        target.generate(Request(prompt, 16, sampling=Sampling(1.5, 40, 0.95, 0.01, 1.1, seed=seed))).tokens
        for seed in (1, 1, 2)
    )
    assert one == same != other


@installed
def test_a_strong_penalty_lets_no_token_come_twice(target, prompt):
    sampling = Sampling(repetition_penalty=1e6)
    tokens = target.generate(Request(prompt, 16, sampling=sampling)).tokens
    assert len({*tokens}) == 16
    assert not {*tokens} & {*prompt}


@installed
def test_a_session_goes_on_forks_and_forgets(target, prompt):
    whole = target.logits((*prompt, 300, 301))
    session = target.session(64, prompt=len(prompt))
    np.testing.assert_allclose(session.extend(prompt).logits, whole[: len(prompt)], atol=1e-4)
    fork = session.fork()
    first = session.extend([300]).logits
    np.testing.assert_array_equal(fork.extend([300]).logits, first)
    session.extend([301])
    session.trim(len(prompt))
    np.testing.assert_array_equal(session.extend([300]).logits, first)
    assert (session.length, fork.length) == (len(prompt) + 1, len(prompt) + 1)


@installed
def test_a_stopped_generation_leaves_nothing(target, prompt):
    session = target.session(64, prompt=len(prompt))
    first = int(session.extend(prompt).logits[-1].argmax())
    twin = session.fork()
    given = session.stop(first, after=3, of=8).tokens
    assert (first, *given) == target.generate(Request(prompt, 4)).tokens
    assert session.length == len(prompt) + 3
    for token in (first, *given):
        decoded = twin.extend([token]).logits
    np.testing.assert_array_equal(session.extend(given[-1:]).logits, decoded)


@installed
def test_an_empty_prompt_is_refused(target):
    with pytest.raises(Refusal, match="the prompt is empty"):
        target.generate(Request((), 2))


@installed
@pytest.mark.parametrize("tokens", [[], [2048], [-1], [300] * 9])
def test_what_it_cannot_run_is_refused(tokens, target):
    with pytest.raises(TargetError):
        target.session(8, prompt=1).extend(tokens)


@installed
@pytest.mark.parametrize("fault", LOUD, ids=str)
def test_a_fault_in_the_file_shows_in_most_numbers(fault, target):
    prompts = target.reference.prompts(4, 0)
    honest = np.median(errors(target, prompts))
    assert 0 < honest < 0.5
    with target.plant(fault) as mutant:
        assert np.median(errors(mutant, prompts)) > 3 * honest
        np.testing.assert_array_equal(mutant.logits(prompts[0].prompt), target.logits(prompts[0].prompt))
        assert mutant.reference is target.reference


@installed
def test_a_scaled_last_norm_scales_all_logits(target, prompt):
    with target.plant(Fault("tensor-scaled", 2.0)) as mutant:
        doubled = mutant.session(64, prompt=len(prompt)).extend(prompt).logits
    np.testing.assert_allclose(doubled, 2 * target.logits(prompt), atol=0.01)


@installed
def test_misread_types_are_not_finite(target):
    with target.plant(Fault("type-misread", 1000)) as mutant:
        assert not np.isfinite(mutant.session(8, prompt=8).extend(range(300, 308)).logits).all()


@installed
def test_dropped_merges_change_tokens(target):
    words = [target.decode([token]) for token in target.ordinary_tokens[-100:]]
    with target.plant(Fault("merge-dropped", 100)) as mutant:
        assert any(mutant.encode(word) != target.encode(word) for word in words)


@installed
def test_other_seams_are_left_to_the_stand_in(target):
    with pytest.raises(CannotPlant), target.plant(Fault("stale-row", 1)):
        pass


@installed
def test_the_claim_on_rounded_logits_survives_on_the_file_and_falls_on_a_changed_one(target):
    contract = load_contract(Path(__file__).parents[3] / "contracts/qwen3-moe-numerics-v1.yaml")
    (falsifier,) = (each for each in contract.falsifiers if each.id == "rounded-logits")
    kind = kind_named(falsifier.kind).of(falsifier.parameters)
    honest = sample(kind, falsifier.bound, target, seed=1)
    assert kind.judge(honest, falsifier.bound).outcome is Outcome.SURVIVED
    with target.plant(Fault("experts-swapped", 4.0), falsifier.bound) as broken:
        found = sample(kind, falsifier.bound, broken, seed=1)
    assert kind.judge(found, falsifier.bound).outcome is Outcome.FALSIFIED
