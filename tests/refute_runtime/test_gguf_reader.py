"""The container: what a sound file gives, and one sentence for each way in which a file is not sound."""

import struct
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGUFValueType as ValueType
from tiny_gguf import TinyModel, vocabulary, write_tiny

from refute_runtime.errors import FormatError, UnsupportedError
from refute_runtime.gguf_reader import GgufFile

MOST = 2**64 - 1


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def key(name: str, kind: int, payload: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + payload


def strings(name: str, values: Sequence[str | bytes]) -> bytes:
    payload = struct.pack("<IQ", ValueType.STRING, len(values)) + b"".join(map(text, values))
    return key(name, ValueType.ARRAY, payload)


def tensor(name: str = "t", extents: Sequence[int] = (8,), kind: int = 0, offset: int = 0) -> bytes:
    body = struct.pack(f"<I{len(extents)}Q", len(extents), *extents)
    return text(name) + body + struct.pack("<IQ", kind, offset)


def built(
    keys: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = bytes(4096),
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """Bytes of a GGUF file, sound unless the arguments are not."""
    head = magic + struct.pack("<IQQ", version, *(counts or (len(tensors), len(keys))))
    head += b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + data


def opened(tmp_path: Path, content: bytes, name: str = "m.gguf") -> GgufFile:
    path = tmp_path / name
    path.write_bytes(content)
    return GgufFile.open(path)


def test_metadata_equal_those_written(tmp_path: Path) -> None:
    model = TinyModel()
    found = GgufFile.open(write_tiny(tmp_path / "m.gguf", model)).metadata
    tokens, types = vocabulary(model)
    assert found["general.architecture"] == "qwen3moe"
    assert found["qwen3moe.block_count"] == 2
    assert found["qwen3moe.rope.freq_base"] == 5e5
    assert found["tokenizer.ggml.add_bos_token"] is False
    assert list(found["tokenizer.ggml.tokens"]) == tokens
    assert list(found["tokenizer.ggml.token_type"]) == types


def test_tensors_equal_those_of_gguf(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "m.gguf", TinyModel(type=gguf.GGMLQuantizationType.Q8_0))
    file = GgufFile.open(path)
    reader = gguf.GGUFReader(path)
    assert list(file.tensors) == [theirs.name for theirs in reader.tensors]
    for theirs in reader.tensors:
        ours = file.tensors[theirs.name]
        assert ours.shape == tuple(theirs.shape.tolist())[::-1]
        assert (ours.type, ours.offset) == (theirs.tensor_type, theirs.data_offset)
        assert file.raw(ours.name).tobytes() == theirs.data.tobytes()


@pytest.mark.parametrize("kind", ["B", "b", "H", "h", "I", "i", "f", "Q", "q", "d"])
def test_numbers_of_every_type_are_read(tmp_path: Path, kind: str) -> None:
    types = dict(zip("BbHhIifQqd", (0, 1, 2, 3, 4, 5, 6, 10, 11, 12), strict=True))
    values = (1, 100) if kind in "BHIQ" else (-1, 100)
    scalar = key("k", types[kind], struct.pack("<" + kind, values[0]))
    several = key("a", ValueType.ARRAY, struct.pack("<IQ2" + kind, types[kind], 2, *values))
    found = opened(tmp_path, built([scalar, several])).metadata
    assert (found["k"], tuple(found["a"])) == (values[0], values)


def test_strings_are_a_sequence(tmp_path: Path) -> None:
    words = ["", "a", "né", "\U0001f600", "last"]
    found = opened(tmp_path, built([strings("k", words)])).metadata["k"]
    assert (len(found), found[2], found[-1], found[1:3]) == (5, "né", "last", ["a", "né"])
    assert list(found) == words
    assert "né" in found


def test_strings_outlive_the_file(tmp_path: Path) -> None:
    with opened(tmp_path, built([strings("k", ["a", "b"])])) as file:
        found = file.metadata["k"]
    assert list(found) == ["a", "b"]


def test_arrays_of_bools_are_read(tmp_path: Path) -> None:
    payload = struct.pack("<IQ", ValueType.BOOL, 3) + b"\1\0\1"
    assert list(opened(tmp_path, built([key("k", ValueType.ARRAY, payload)])).metadata["k"]) == [1, 0, 1]


def test_version_2_is_read(tmp_path: Path) -> None:
    assert "t" in opened(tmp_path, built([], [tensor()], version=2)).tensors


def test_another_alignment_is_honoured(tmp_path: Path) -> None:
    alignment = key("general.alignment", ValueType.UINT32, struct.pack("<I", 256))
    file = opened(tmp_path, built([alignment], [tensor("a"), tensor("b", offset=256)]))
    assert [info.offset for info in file.tensors.values()] == [256, 512]


def test_rows_are_views_that_outlive_the_file(tmp_path: Path) -> None:
    with opened(tmp_path, built([], [tensor(extents=(2, 3))], bytes(range(64)))) as file:
        raw = file.raw("t")
    assert raw.shape == (3, 8)
    assert not raw.flags.writeable
    assert np.array_equal(raw.reshape(-1), np.arange(24))


def test_reading_after_closing_says_so(tmp_path: Path) -> None:
    file = opened(tmp_path, built([], [tensor()]))
    file.close()
    with pytest.raises(ValueError, match="is closed"):
        file.raw("t")


def test_a_lone_shard_name_is_one_file(tmp_path: Path) -> None:
    assert "t" in opened(tmp_path, built([], [tensor()]), "m-00001-of-00001.gguf").tensors


U32, U64, STRING, ARRAY = (
    int(t) for t in (ValueType.UINT32, ValueType.UINT64, ValueType.STRING, ValueType.ARRAY)
)
BAD_STRINGS = key("k", ARRAY, struct.pack("<IQQ", STRING, 2, 1) + b"a" + struct.pack("<Q", MOST))
NOT_SOUND = {
    "empty": (b"", "the file is empty; expected a GGUF model"),
    "magic": (built(magic=b"ggml"), "the file starts with b'ggml'; expected b'GGUF'"),
    "short magic": (b"GG", "the file ends in the magic: 2 bytes are left at offset 0; expected 4"),
    "short header": (
        built()[:20],
        "the file ends in the number of keys: 4 bytes are left at offset 16; expected 8",
    ),
    "many tensors": (built(counts=(MOST, 0)), f"the header announces {MOST} tensors; expected at most 32768"),
    "many keys": (built(counts=(0, MOST)), f"the header announces {MOST} keys; expected at most 32768"),
    "missing tensors": (built(counts=(1, 0))[:24], "the file ends in the length of the name of tensor 0"),
    "long key": (
        built([struct.pack("<Q", MOST)]),
        f"the name of key 0 has {MOST} bytes; expected at most 65535",
    ),
    "long string": (
        built([key("k", STRING, struct.pack("<Q", MOST))]),
        f"the file ends in the key k: .*expected {MOST}",
    ),
    "key twice": (built([key("k", U32, bytes(4))] * 2), "the key k is there twice; expected it once"),
    "key type": (built([key("k", 99, b"")]), "the key k has value type 99; expected 0 to 12"),
    "key text": (built([text(b"\xff\xfe")]), "the name of key 0 at offset 32 is not UTF-8; expected text"),
    "bool": (built([key("k", 7, b"\2")]), "the key k holds bools other than 0 and 1"),
    "long array": (built([key("k", ARRAY, struct.pack("<IQ", U64, MOST))]), "the file ends in the key k"),
    "many strings": (
        built([key("k", ARRAY, struct.pack("<IQ", STRING, MOST))]),
        f"the key k has {MOST} strings, but only .* bytes follow; expected 8 or more for each",
    ),
    "array string": (built([BAD_STRINGS]), r"the file ends in the key k\[1\]: .* expected " + str(MOST)),
    "array text": (built([strings("k", ["a", b"\xff"])]), r"the key k\[1\] at offset .* is not UTF-8"),
    "dimensions": (built([], [tensor(extents=())]), "the tensor t has 0 dimensions; expected 1 to 4"),
    "five dimensions": (
        built([], [tensor(extents=(1,) * 5)]),
        "the tensor t has 5 dimensions; expected 1 to 4",
    ),
    "no extent": (
        built([], [tensor(extents=(8, 0))]),
        r"the tensor t has shape \(0, 8\); expected no extent of 0",
    ),
    "overflow": (
        built([], [tensor(extents=(2**32, 2**32))]),
        "the tensor t ends at byte .*; expected it inside",
    ),
    "block": (
        built([], [tensor(extents=(33,), kind=8)]),
        "rows of 33 elements; expected a multiple of 32, the block of Q8",
    ),
    "misaligned": (built([], [tensor(offset=4)]), "the tensor t is at offset 4; expected a multiple of 32"),
    "outside": (built([], [tensor(offset=4096)]), "the tensor t ends at byte 4192 of a file of 4160"),
    "far outside": (built([], [tensor(offset=MOST - 31)]), "the tensor t ends at byte"),
    "overlap": (
        built([], [tensor("a", (16,)), tensor("b", offset=32)]),
        "the tensor b starts at byte 128, inside a; expected byte 160 or later",
    ),
    "tensor twice": (
        built([], [tensor(), tensor(offset=32)]),
        "the tensor t is there twice; expected it once",
    ),
    "tensor name": (built([], [tensor("x" * 65)]), "the name of tensor 0 has 65 bytes; expected at most 64"),
    "alignment": (
        built([key("general.alignment", U32, struct.pack("<I", 24))]),
        "general.alignment is 24; expected a power of two from 8 on",
    ),
    "alignment type": (
        built([key("general.alignment", STRING, text("8"))]),
        "general.alignment is a str; expected an integer",
    ),
}
NOT_SUPPORTED = {
    "version 1": (built(version=1), "GGUF version 1 is not supported; expected 2 or 3"),
    "version 4": (built(version=4), "GGUF version 4 is not supported; expected 2 or 3"),
    "big-endian": (built(version=3 << 24), "the file is big-endian; expected little-endian GGUF"),
    "tensor type": (built([], [tensor(kind=999)]), "the tensor t has type 999; expected a type up to"),
    "retired type": (built([], [tensor(kind=4)]), "the tensor t has type 4; expected a type up to"),
    "nested": (built([key("k", ARRAY, struct.pack("<IQ", ARRAY, 1))]), "the key k is an array of arrays"),
    "shard": (built([key("split.count", 2, struct.pack("<H", 3))]), "one of 3 parts of a split model"),
}


@pytest.mark.parametrize("case", NOT_SOUND)
def test_a_file_that_is_not_sound_is_one_sentence(tmp_path: Path, case: str) -> None:
    content, message = NOT_SOUND[case]
    with pytest.raises(FormatError, match=message) as caught:
        opened(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'm.gguf'}: ")


@pytest.mark.parametrize("case", NOT_SUPPORTED)
def test_a_file_that_is_not_supported_is_one_sentence(tmp_path: Path, case: str) -> None:
    content, message = NOT_SUPPORTED[case]
    with pytest.raises(UnsupportedError, match=message) as caught:
        opened(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'm.gguf'}: ")


def test_a_shard_is_known_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="one of 2 parts of a split model"):
        GgufFile.open(tmp_path / "m-00001-of-00002.gguf")


@pytest.mark.parametrize("name", ["absent.gguf", "."])
def test_a_path_that_cannot_be_read_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError, match=r"cannot be read \(.*\); expected a GGUF model"):
        GgufFile.open(tmp_path / name)


def test_every_truncation_of_the_header_is_refused(tmp_path: Path) -> None:
    whole = built([key("k", U32, bytes(4)), strings("s", ["a", "bc"])], [tensor()], data=bytes(32))
    for size in range(len(whole)):
        with pytest.raises(FormatError):
            opened(tmp_path, whole[:size])


@pytest.mark.parametrize(
    "case", ["many tensors", "many keys", "long string", "long array", "many strings", "overflow"]
)
def test_absurd_sizes_allocate_nothing(tmp_path: Path, case: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(NOT_SOUND[case][0])
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            GgufFile.open(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
