"""Faults of the model file: what they change, what they leave, and what they refuse."""

import io
from dataclasses import replace

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_gguf import MERGES, TinyModel, write_tiny

from refute.faults.base import Fault
from refute.faults.gguf_parts import GgufParts, NotGguf
from refute.faults.model import mutate
from refute.faults.specs_logits import MODEL
from refute.select import embedded_model
from refute.targets.base import CannotPlant
from refute.targets.bundled import BundledTarget
from refute_runtime.quant import dequantize
from refute_runtime.weights import GgufFile

LAYERS = TinyModel().layers
TOKENS = (40, 41, 42, 50, 60, 70, 80, 90)
Q6 = {
    "*.ffn_down_exps.weight": gguf.GGMLQuantizationType.Q6_K,
    "output.weight": gguf.GGMLQuantizationType.Q6_K,
}
# for each fault at its default dose: the keys and the tensors, without their layer, that change
CHANGED = {
    "rope-base": ["qwen3moe.rope.freq_base"],
    "qk-norm-ones": ["attn_q_norm.weight", "attn_k_norm.weight"],
    "kv-weights-permuted": ["attn_k.weight", "attn_v.weight"],
    "router-scaled": ["ffn_gate_inp.weight"],
    "experts-swapped": ["ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"],
    "expert-zeroed": ["ffn_down_exps.weight"],
    "type-misread": ["ffn_down_exps.weight", "output.weight"],
    "tensor-scaled": ["output_norm.weight"],
    "merge-dropped": ["tokenizer.ggml.merges"],
}
DOSES = [Fault(spec.name, dose) for spec in MODEL for dose in (*spec.doses, spec.default)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small MoE with two tensors of type Q6_K per layer or file, all else F32."""
    model = TinyModel(hidden=256, expert_ffn=256, types=Q6)
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf", model)


@pytest.fixture(scope="module")
def honest(tiny):
    target = BundledTarget(tiny, "array", "cpu")
    yield target
    target.close()


@pytest.fixture
def planted(tiny, tmp_path):
    """Write the tiny model with a fault; both files as another reader sees them, and what should differ."""
    opened = []

    def plant(fault):
        mutant = mutate(fault, GgufParts.open(tiny))
        path = tmp_path / f"{fault}.gguf"
        with path.open("wb") as stream:
            mutant.parts.write(stream)
        opened.extend(GgufFile.open(each) for each in (tiny, path))
        return *opened[-2:], mutant.changed

    yield plant
    for file in opened:
        file.close()


def plain(value):
    return value if isinstance(value, int | float | str) else list(value)


def values(file, name):
    info = file.tensors[name]
    return dequantize(file.raw(name), info.type).reshape(info.shape)


def test_every_fault_of_the_model_has_a_stated_change() -> None:
    assert CHANGED.keys() == {spec.name for spec in MODEL}


def test_a_file_without_changes_is_written_byte_for_byte(tmp_path) -> None:
    parts = GgufParts.open(embedded_model())
    with (tmp_path / "same.gguf").open("wb") as stream:
        parts.write(stream)
    assert (tmp_path / "same.gguf").read_bytes() == embedded_model().read_bytes()
    assert parts.nbytes == embedded_model().stat().st_size


@pytest.mark.parametrize("fault", DOSES, ids=str)
def test_only_what_it_says_differs(fault, planted) -> None:
    before, after, changed = planted(fault)
    assert list(before.metadata) == list(after.metadata)
    assert list(before.tensors) == list(after.tensors)
    differ = [k for k in before.metadata if plain(before.metadata[k]) != plain(after.metadata[k])]
    differ += [
        name
        for name, info in before.tensors.items()
        if (info.type, before.raw(name).tobytes()) != (after.tensors[name].type, after.raw(name).tobytes())
    ]
    assert sorted(differ) == sorted(changed)
    assert {
        name.partition(".")[2].partition(".")[2] if name.startswith("blk") else name for name in changed
    } <= set(CHANGED[fault.name])


@pytest.mark.parametrize("spec", MODEL, ids=lambda spec: spec.name)
def test_at_the_default_dose_all_of_it_differs(spec, tiny) -> None:
    changed = mutate(Fault(spec.name, spec.default), GgufParts.open(tiny)).changed
    inside = [name for name in CHANGED[spec.name] if f"blk.0.{name}" in GgufParts.open(tiny).tensors]
    assert len(changed) == len(CHANGED[spec.name]) + len(inside) * (LAYERS - 1)


@pytest.mark.parametrize(
    "spec", [spec for spec in MODEL if spec.unit == "layers"], ids=lambda spec: spec.name
)
def test_one_layer_is_the_last_one(spec, tiny) -> None:
    changed = mutate(Fault(spec.name, 1), GgufParts.open(tiny)).changed
    assert all(name.startswith(f"blk.{LAYERS - 1}.") for name in changed)


@pytest.mark.parametrize("spec", MODEL, ids=lambda spec: spec.name)
def test_the_same_file_comes_out_each_time(spec, tiny) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    for stream in (first, second):
        mutate(Fault(spec.name, spec.default), GgufParts.open(tiny)).parts.write(stream)
    assert first.getvalue() == second.getvalue()


@pytest.mark.parametrize("fault", [each for each in DOSES if each.name != "merge-dropped"], ids=str)
def test_it_changes_the_logits(fault, planted, honest) -> None:
    target = BundledTarget(planted(fault)[1].path, "array", "cpu")
    assert not np.array_equal(target.logits(TOKENS), honest.logits(TOKENS))
    target.close()


def test_dropped_merges_change_the_tokens_of_texts_and_no_logits(planted, honest) -> None:
    target = BundledTarget(planted(Fault("merge-dropped", 1))[1].path, "array", "cpu")
    assert target.encode("é") != honest.encode("é")  # of the last merge
    assert target.encode("hello") == honest.encode("hello")
    assert target.decode(target.encode("é")) == "é"
    np.testing.assert_array_equal(target.logits(TOKENS), honest.logits(TOKENS))
    target.close()


@pytest.mark.parametrize(("dose", "left"), [(1, 11), (10, 2), (12, 0), (100, 0)])
def test_merges_are_dropped_from_the_end(dose, left, planted) -> None:
    after = planted(Fault("merge-dropped", dose))[1]
    assert list(after.metadata["tokenizer.ggml.merges"]) == list(MERGES[:left])


def test_rope_base_is_multiplied(planted) -> None:
    assert planted(Fault("rope-base", 10))[1].metadata["qwen3moe.rope.freq_base"] == pytest.approx(5e6)


def test_norms_are_ones(planted) -> None:
    before, after, changed = planted(Fault("qk-norm-ones", 1000))
    assert all((values(after, name) == 1).all() and (values(before, name) != 1).any() for name in changed)


def test_kv_heads_are_rolled(planted) -> None:
    before, after, changed = planted(Fault("kv-weights-permuted", 1000))
    for name in changed:
        (first, second), (rolled_first, rolled_second) = (
            np.split(values(before, name), 2),
            np.split(values(after, name), 2),
        )
        np.testing.assert_array_equal((rolled_first, rolled_second), (second, first))


@pytest.mark.parametrize("name", ["router-scaled", "tensor-scaled"])
def test_values_are_multiplied(name, planted) -> None:
    before, after, changed = planted(Fault(name, 1.5))
    for each in changed:
        np.testing.assert_array_equal(values(after, each), values(before, each) * np.float32(1.5))


def test_a_scaled_last_norm_scales_all_logits(planted, honest) -> None:
    target = BundledTarget(planted(Fault("tensor-scaled", 2.0))[1].path, "array", "cpu")
    np.testing.assert_allclose(target.logits(TOKENS), 2 * honest.logits(TOKENS), rtol=1e-5, atol=1e-5)
    target.close()


def test_a_scaled_router_chooses_the_same_experts(planted, honest) -> None:
    target = BundledTarget(planted(Fault("router-scaled", 2.0))[1].path, "array", "cpu")
    ours, theirs = (each.session(8, prompt=8).extend(TOKENS, routing=True) for each in (target, honest))
    np.testing.assert_array_equal(ours.experts[:, 0], theirs.experts[:, 0])  # later layers see other states
    assert (ours.weights[:, 0].max(axis=-1) > theirs.weights[:, 0].max(axis=-1)).all()
    target.close()


def test_two_experts_change_places(planted) -> None:
    before, after, changed = planted(Fault("experts-swapped", 1000))
    for name in changed:
        np.testing.assert_array_equal(values(after, name), values(before, name)[[1, 0, 2, 3, 4]])


def test_one_expert_is_zero(planted) -> None:
    before, after, changed = planted(Fault("expert-zeroed", 1000))
    for name in changed:
        assert not values(after, name)[0].any()
        np.testing.assert_array_equal(values(after, name)[1:], values(before, name)[1:])


def test_misread_bytes_are_those_that_were_there(planted) -> None:
    before, after, changed = planted(Fault("type-misread", 1000))
    for name in changed:
        assert (before.tensors[name].type.name, after.tensors[name].type.name) == ("Q6_K", "Q4_K")
        raw = after.raw(name).tobytes()
        assert before.raw(name).tobytes().startswith(raw)
        assert len(raw) < before.tensors[name].nbytes


@pytest.mark.parametrize(
    "fault",
    [
        *(
            Fault(name, dose)
            for name in ("rope-base", "tensor-scaled")
            for dose in (0, -1, 1, np.nan, np.inf)
        ),
        *(
            Fault(name, dose)
            for name in ("qk-norm-ones", "type-misread")
            for dose in (0, 1.5, np.nan, np.inf)
        ),
        Fault("rope-base", 1e38),
        Fault("tensor-scaled", 1 + 1e-12),  # a float32 does not see it
        Fault("stale-row", 1),
        Fault("nonsense", 1),
    ],
    ids=str,
)
def test_dose_without_sense_is_refused(fault, tiny) -> None:
    with pytest.raises(CannotPlant):
        mutate(fault, GgufParts.open(tiny))


@pytest.mark.parametrize(
    ("name", "model", "overrides"),
    [
        ("kv-weights-permuted", {"kv_heads": 1}, {}),
        ("router-scaled", {"architecture": "qwen3"}, {}),
        ("router-scaled", {"experts_per_token": 1}, {}),
        ("experts-swapped", {"architecture": "qwen3"}, {}),
        ("experts-swapped", {"experts": 1, "experts_per_token": 1}, {}),
        ("expert-zeroed", {"architecture": "qwen3"}, {}),
        ("type-misread", {}, {}),
        ("merge-dropped", {}, {"tokenizer.ggml.merges": None}),
        ("rope-base", {}, {"qwen3moe.rope.freq_base": None}),
        ("rope-base", {}, {"split.count": (2, gguf.GGUFValueType.UINT16)}),
        ("rope-base", {"architecture": "llama"}, {}),
    ],
)
def test_model_in_which_nothing_would_change_is_refused(name, model, overrides, tmp_path) -> None:
    path = write_tiny(tmp_path / "model.gguf", replace(TinyModel(), **model), overrides=overrides)
    with pytest.raises(CannotPlant):
        mutate(Fault(name, 2), GgufParts.open(path))


def test_norms_that_are_ones_already_are_refused(tmp_path) -> None:
    names = [f"blk.{layer}.attn_{x}_norm.weight" for layer in range(LAYERS) for x in "qk"]
    ones = dict.fromkeys(names, np.ones(TinyModel().head_dim, np.float32))
    path = write_tiny(tmp_path / "model.gguf", values=ones)
    with pytest.raises(CannotPlant, match="change nothing"):
        mutate(Fault("qk-norm-ones", 1), GgufParts.open(path))


def test_a_dense_model_takes_the_others(tmp_path) -> None:
    path = write_tiny(tmp_path / "model.gguf", TinyModel(architecture="qwen3"))
    for name in ("rope-base", "qk-norm-ones", "kv-weights-permuted", "tensor-scaled", "merge-dropped"):
        assert mutate(Fault(name, 2), GgufParts.open(path)).changed


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], parent=settings())
@given(at=st.integers(0, 12_000), put=st.binary(max_size=8), cut=st.booleans())
def test_a_broken_file_is_one_sentence(tmp_path, at, put, cut) -> None:
    raw = bytearray(write_tiny(tmp_path / "whole.gguf", TinyModel(layers=1, hidden=8)).read_bytes())
    raw[at : at + len(put)] = put
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(raw[: at if cut else len(raw)])
    said = ""
    try:
        mutate(Fault("tensor-scaled", 2), GgufParts.open(broken))
    except (NotGguf, CannotPlant) as error:
        said = str(error)
    assert "\n" not in said
    assert said or not cut
