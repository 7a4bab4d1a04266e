from types import SimpleNamespace

import make_gguf
import numpy as np
import pytest
from blocks import random_rows
from gguf import GGMLQuantizationType as TensorType

from refute_runtime.engine import Engine
from refute_runtime.quant import dequantize

TYPES = ["Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_0", "F16", "BF16", "F32"]


SMALL = make_gguf.Shape(
    layers=8, experts=4, experts_per_token=2, hidden=256, expert_ffn=256, heads=4, kv_heads=2,
    head_dim=64, vocabulary=2048, words=2000, context=64,
)  # fmt: skip


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "small.gguf"
    make_gguf.write(path, SMALL, "random-small")
    with Engine.load(path) as engine:
        yield engine


@pytest.mark.parametrize("name", TYPES)
def test_random_blocks_have_the_spread_that_was_asked_for(name):
    kind = TensorType[name]
    rows = random_rows(kind, 256, 1024, 0.02, np.random.Generator(np.random.SFC64(1)))
    values = dequantize(rows, kind)
    assert values.std() == pytest.approx(0.02, rel=0.03)
    assert abs(values.mean()) < 0.001


@pytest.mark.parametrize("name", TYPES)
def test_no_two_rows_are_equal(name):
    rows = random_rows(TensorType[name], 512, 256, 0.02, np.random.Generator(np.random.SFC64(1)))
    assert len(np.unique(rows, axis=0)) == 512


def test_blocks_of_a_type_without_a_maker_are_refused():
    with pytest.raises(ValueError, match="256 IQ4_XS: expected whole blocks of Q4_K"):
        random_rows(TensorType.IQ4_XS, 1, 256, 1.0, np.random.Generator(np.random.SFC64(1)))


def test_the_file_loads_and_generates(engine):
    tokens = list(engine.generate([5, 6, 7], max_tokens=4, stop=False))
    assert len(tokens) == 4
    assert tokens[-1].counters.guards_fired == 0


def test_logits_spread_as_those_of_a_model_do(engine):
    logits = engine.model.forward([5, 6, 7], engine.new_cache(8)).logits
    assert 0.3 < logits.std() < 3


def test_the_types_are_those_of_q4_k_m(engine):
    kinds = {name: info.type.name for name, info in engine.file.tensors.items()}
    downs = [kinds[f"blk.{layer}.ffn_down_exps.weight"] for layer in range(8)]
    assert downs == ["Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q6_K"]
    assert kinds["output.weight"] == "Q6_K"
    assert kinds["blk.0.ffn_gate_inp.weight"] == "F32"


def test_text_is_tokens_and_text_again(engine):
    text = "the other street\nÄ 12 <|im_end|>"
    ids = engine.tokenizer.encode(text)
    assert engine.tokenizer.decode(ids) == text
    assert len(ids) < len(text.encode())  # merges work


def test_the_template_ends_a_turn_with_the_stop_token(engine):
    ids = engine.tokenizer.encode_template("<|im_start|>user\nthe<|im_end|>\n")
    assert engine.tokenizer.eos_id in ids
    assert engine.template is not None


def test_two_files_of_a_shape_are_equal(tmp_path):
    for name in ("a", "b"):
        make_gguf.write(tmp_path / name, SMALL, "random-small")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_disk_that_is_too_small_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(make_gguf.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    with pytest.raises(OSError, match=r"has 18\.6 GB, but only 1\.0 GB are free"):
        make_gguf.make("30b", tmp_path / "30b.gguf")
    assert not list(tmp_path.iterdir())
