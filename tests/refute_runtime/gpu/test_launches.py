"""What launches hand to kernels fits the kernels' own signatures; what no kernel can do is refused."""

from dataclasses import replace

import numpy as np
import pytest
from cuda_emulator import KERNELS, signatures
from gguf import GGMLQuantizationType as TensorType

from refute_runtime.backends.gpu import decoding, launches
from refute_runtime.backends.gpu.launches import Before, Grouping, Heads
from refute_runtime.backends.gpu.layouts import Matrix, Rounded

HEADS = Heads(8, 2, 64)
ROUNDED = Rounded.at(4096, 16, 512)
BLOCKS = Matrix(1 << 20, TensorType.Q6_K, 33, 512)
FLOATS = Matrix(1 << 20, TensorType.BF16, 33, 512)
GROUPING = Grouping(8, 16, 24, 32)


def known():
    """Of each kernel, its arguments as int (integers and addresses) or float."""
    texts = [source.read_text(encoding="utf-8") for source in sorted(KERNELS.glob("*.cu"))]
    return {
        name: [float if kind == "float" else int for kind in kinds]
        for text in texts
        for name, kinds in signatures(text).items()
    }


class Recorder:
    def __init__(self):
        self.launched = []

    def launch(self, kernel, grid, block, arguments, shared=0):
        self.launched.append((kernel, grid, block, arguments, shared))


CALLS = {
    "embed": lambda device: launches.embed(device, BLOCKS, 8, 3, 16),
    "rms_norm": lambda device: launches.rms_norm(device, 8, 16, 1e-6, 3, 512, 24, ROUNDED),
    "round_rows": lambda device: launches.round_rows(device, 8, 3, ROUNDED),
    "swiglu": lambda device: launches.swiglu(device, 8, 16, 512, 3, 512, 24, ROUNDED),
    "add": lambda device: launches.add(device, 8, 16, 1000, 8),
    "multiply_1": lambda device: launches.multiply(device, BLOCKS, 1, 8, rounded=ROUNDED),
    "multiply_4": lambda device: launches.multiply(device, FLOATS, 4, 8, x=16),
    "multiply_8": lambda device: launches.multiply(
        device, BLOCKS, 5, 8, rounded=ROUNDED, stride=99, column=66
    ),
    "heads": lambda device: launches.heads(device, 8, 3, HEADS, (16, 24), (32, 40), 1e-6, 48, cache=(56, 64)),
    "attend": lambda device: launches.attend(device, 8, (16, 24), 3, HEADS, Before(100), 2, 32, 40, 48),
    "route": lambda device: launches.route(device, 8, 3, 128, 8, 16, 24, 32),
    "group": lambda device: launches.group(device, 8, 24, 128, GROUPING),
    "expert_multiply_1": lambda device: launches.expert_multiply(
        device, BLOCKS, 128, 8, 24, 16, per=8, rounded=ROUNDED
    ),
    "expert_multiply_8": lambda device: launches.expert_multiply(
        device, FLOATS, 128, 8, 24, 16, x=24, grouping=GROUPING
    ),
    "expert_multiply_tiles": lambda device: launches.expert_multiply(
        device, BLOCKS, 128, 8, 24, 16, rounded=ROUNDED, grouping=replace(GROUPING, tile=launches.WIDE_TILE)
    ),
    "multiply_tiles": lambda device: launches.multiply(device, BLOCKS, 33, 8, rounded=ROUNDED),
    "weighted_sum": lambda device: launches.weighted_sum(device, 8, 16, 3, 8, 512, 24, 24),
    "norm_multiply": lambda device: decoding.norm_multiply(device, 8, 16, 1e-6, (BLOCKS, FLOATS), 24),
    "multiply_add": lambda device: decoding.multiply_add(device, BLOCKS, 8, 8, rounded=ROUNDED),
    "attend_token": lambda device: decoding.attend_token(
        device,
        8,
        HEADS,
        (16, 24),
        (32, 40),
        1e-6,
        48,
        (56, 64),
        decoding.Attention(99, 8, 16, 24),
        72,
        ROUNDED,
    ),
    "route_one": lambda device: decoding.route_one(device, 8, 16, 1e-6, FLOATS, 8, 24, 32, 40, 48, 56),
    "gate_up": lambda device: decoding.gate_up(device, BLOCKS, BLOCKS, 8, 8, 16, chosen=24, rounded=ROUNDED),
    "down_add": lambda device: decoding.down_add(
        device, BLOCKS, 8, 16, 16, chosen=24, shares=32, rounded=ROUNDED
    ),
    "choose": lambda device: launches.choose(device, 8, 151936, 16, 24, 64),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_launch_fits_the_signature_of_its_kernel(name):
    device, fitting = Recorder(), known()
    CALLS[name](device)
    for kernel, grid, block, arguments, _ in device.launched:
        kinds = [float if isinstance(value, np.float32) else int for value in arguments]
        assert kinds == fitting[kernel], kernel
        assert all(type(value) in (int, np.float32) for value in arguments)
        assert min(*grid, *block) >= 1
        assert max(grid[1:]) < 1 << 16


def test_every_kernel_is_launched():
    device = Recorder()
    for call in CALLS.values():
        call(device)
    assert {name for name, *_ in device.launched} == set(known())


def test_every_row_has_lanes():
    device = Recorder()
    launches.multiply(device, BLOCKS, 1, 8, rounded=ROUNDED)
    launches.multiply(device, FLOATS, 9, 8, x=16)
    assert [(grid, block[0]) for _, grid, block, *_ in device.launched] == [
        ((3, 1, 1), 128),
        ((9, 2, 1), 128),
    ]


@pytest.mark.parametrize("tile", [launches.TILE, launches.WIDE_TILE])
def test_tiles_have_room_in_the_worst_case(tile):
    for counts in ([1] * 5, [9, 1, 1], [8, 8], [1, 7, 9, 17], [33, 1, 64]):
        needed = sum(-(-count // tile) for count in counts)
        assert needed <= launches.most_tiles(sum(counts), len(counts), tile) <= sum(counts)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda device: Heads(8, 2, 24), "heads of 24 elements"),
        (lambda device: Heads(8, 3, 64), "8 query heads for 3 kv heads"),
        (lambda device: launches.route(device, 8, 1, 2000, 8, 8, 8, 8), "8 of 2000 experts"),
        (lambda device: launches.multiply(device, BLOCKS, 1, 8, x=16), "rounded rows"),
        (lambda device: launches.multiply(device, FLOATS, 1, 8, rounded=ROUNDED), "with float32"),
        (
            lambda device: launches.rms_norm(device, 8, 16, 1e-6, 3, 256, 0, ROUNDED),
            "512 columns, expected 256",
        ),
        (
            lambda device: launches.attend(device, 8, (8, 8), 3, HEADS, Before(62), 1, 8, 8, 8),
            "1 splits of 64",
        ),
    ],
)
def test_what_no_kernel_can_do_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call(Recorder())
