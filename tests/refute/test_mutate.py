"""`refute mutate`: a whole file or none, and a sentence for whatever cannot be done."""

import errno
import os
from pathlib import Path

import pytest
from tiny_gguf import TinyModel, write_tiny

from refute.cli import main
from refute.faults.base import Fault
from refute.faults.gguf_parts import GgufParts
from refute.faults.specs_logits import MODEL
from refute.mutate import mutant_of
from refute.targets.base import CannotPlant
from refute.verdict import Exit
from refute_runtime.weights import GgufFile


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tiny(Path("in.gguf"))
    return tmp_path


def mutate(*arguments):
    return main(["mutate", *map(str, arguments)])


def test_writes_the_copy_and_says_what_changed(folder, capsys):
    before = Path("in.gguf").read_bytes()
    assert mutate("in.gguf", "--fault", "rope-base=2", "out.gguf") == Exit.OK
    assert capsys.readouterr().out == "out.gguf: in.gguf with rope-base=2\n  qwen3moe.rope.freq_base\n"
    with GgufFile.open("out.gguf") as file:
        assert file.metadata["qwen3moe.rope.freq_base"] == 1e6
    assert Path("in.gguf").read_bytes() == before


def test_without_a_dose_it_is_the_default(folder, capsys):
    assert mutate("in.gguf", "--fault", "tensor-scaled", "out.gguf") == Exit.OK
    assert "with tensor-scaled=1.01" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["in.gguf", "out.gguf", "--fault=rope-bas"], "'rope-bas' is no fault; did you mean 'rope-base'?"),
        (["in.gguf", "out.gguf", "--fault=rope-base=x"], "the dose is not a number"),
        (["in.gguf", "out.gguf", "--fault=rope-base=1"], "expected a factor above 0 other than 1"),
        (["in.gguf", "out.gguf", "--fault=qk-norm-ones=0.5"], "expected a whole number from 1 on"),
        (["in.gguf", "out.gguf", "--fault=stale-row"], "a fault of the cache, which is in no file"),
        (["in.gguf", "out.gguf", "--fault=type-misread"], "the model has no tensor of type Q6_K"),
        (["in.gguf", "in.gguf", "--fault=rope-base"], "in.gguf: is the model itself"),
        (["in.gguf", "in.gguf", "--fault=rope-base", "--force"], "in.gguf: is the model itself"),
        (["in.gguf", "link.gguf", "--fault=rope-base", "--force"], "link.gguf: is the model itself"),
        (["in.gguf", "old.gguf", "--fault=rope-base"], "old.gguf: is there already (--force replaces it)"),
        (["in.gguf", ".", "--fault=rope-base", "--force"], "is a folder"),
        (["in.gguf", "none/out.gguf", "--fault=rope-base"], "cannot be written (No such file or directory)"),
        (["none.gguf", "out.gguf", "--fault=rope-base"], "none.gguf: No such file or directory"),
        (["old.gguf", "out.gguf", "--fault=rope-base"], "old.gguf: the file starts with b'text'"),
        (["empty.gguf", "out.gguf", "--fault=rope-base"], "empty.gguf: the file is empty"),
        (["half.gguf", "out.gguf", "--fault=rope-base"], "half.gguf: not sound at byte"),
        (["dense.gguf", "out.gguf", "--fault=router-scaled"], "the model has no experts"),
        (["one.gguf", "out.gguf", "--fault=kv-weights-permuted"], "the model has one kv head"),
        (["other.gguf", "out.gguf", "--fault=rope-base"], "'llama'; expected qwen3 or qwen3moe"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_no_file(folder, capsys, arguments, sentence):
    Path("old.gguf").write_text("text")
    Path("empty.gguf").touch()
    Path("half.gguf").write_bytes(Path("in.gguf").read_bytes()[:100_000])
    Path("link.gguf").symlink_to("in.gguf")
    write_tiny(Path("dense.gguf"), TinyModel(architecture="qwen3"))
    write_tiny(Path("one.gguf"), TinyModel(kv_heads=1))
    write_tiny(Path("other.gguf"), TinyModel(architecture="llama"))
    before = {path: path.read_bytes() for path in Path().iterdir()}
    assert mutate(*arguments) == Exit.USAGE
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_what_is_no_regular_file_is_never_replaced(folder, capsys, force):
    os.mkfifo("pipe.gguf")
    assert mutate("in.gguf", "pipe.gguf", "--fault=rope-base", *force) == Exit.USAGE
    assert capsys.readouterr().err == "refute: pipe.gguf: is no regular file; expected a new file\n"
    assert Path("pipe.gguf").is_fifo()


@pytest.mark.parametrize("fault", ["tensor-scaled=1e300", "tensor-scaled=1e-60", "router-scaled=1e-50"])
def test_a_dose_that_leaves_no_numbers_is_refused(folder, capsys, fault):
    assert mutate("in.gguf", "out.gguf", "--fault", fault) == Exit.USAGE
    assert "would become infinite or 0; expected a milder dose" in capsys.readouterr().err
    assert not Path("out.gguf").exists()


def test_help_says_what_each_fault_breaks(capsys):
    with pytest.raises(SystemExit):
        mutate("--help")
    said = capsys.readouterr().out
    assert "\n  rope-base (10 x): The base of the RoPE frequencies is multiplied.\n" in said
    assert all(f"\n  {spec.name} (" in said and f"): {spec.breaks}" in said for spec in MODEL)


def test_force_replaces_a_file(folder):
    Path("out.gguf").write_text("text")
    assert mutate("in.gguf", "--fault", "rope-base", "out.gguf", "--force") == Exit.OK
    assert Path("out.gguf").read_bytes().startswith(b"GGUF")


def full_disk(self, stream, progress):
    stream.write(b"GGUF")
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(self, stream, progress):
    stream.write(b"GGUF")
    raise KeyboardInterrupt


@pytest.mark.parametrize(("write", "code"), [(full_disk, Exit.USAGE), (interrupted, Exit.INTERRUPTED)])
def test_a_copy_cut_short_leaves_nothing(folder, monkeypatch, write, code):
    Path("out.gguf").write_text("text")
    monkeypatch.setattr(GgufParts, "write", write)
    assert mutate("in.gguf", "--fault", "rope-base", "out.gguf", "--force") == code
    assert sorted(path.name for path in Path().iterdir()) == ["in.gguf", "out.gguf"]
    assert Path("out.gguf").read_text() == "text"


def test_a_temporary_copy_is_gone_afterwards(folder):
    with mutant_of(Path("in.gguf"), Fault("rope-base", 2)) as copy:
        assert copy.read_bytes() != Path("in.gguf").read_bytes()
    assert not copy.exists()
    assert not copy.parent.exists()


def test_a_temporary_copy_that_finds_no_room_cannot_be_planted(folder, monkeypatch):
    monkeypatch.setattr(GgufParts, "write", full_disk)
    with (
        pytest.raises(CannotPlant, match="No space left on device"),
        mutant_of(Path("in.gguf"), Fault("rope-base", 2)),
    ):
        pass
