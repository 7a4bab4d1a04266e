"""What every kind of processor computes of a row: the bits of those that this one has.

Instructions that are not here are done by others, so the order of elements and scales is seen everywhere.
"""

import numpy as np
import pytest
from gguf import GGMLQuantizationType as TensorType
from llvmlite import binding, ir
from numba import njit
from q8_reference import HALVES, packed_rows, product, random_rows

from refute_runtime.backends.simd import build, lanes, narrow, rows, vnni
from refute_runtime.backends.simd.emit import I16, I32, Emitter, kernel, vector
from refute_runtime.backends.simd.instructions import Avx2, Vnni
from refute_runtime.backends.simd.scalars import address
from refute_runtime.quant import BLOCKS, dequantize

QUANTIZED = [getattr(TensorType, name) for name in ("Q4_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K")]


class Slow(Vnni):
    """Vectors of 64 bytes on any processor."""

    pairs = Emitter.pairs
    signed_dots = Emitter.signed_dots

    def byte_dots(self, sums, unsigned, signed):
        wide = vector(I32, unsigned.type.count)
        products = self.b.mul(self.b.zext(unsigned, wide), self.b.sext(signed, wide))
        return self.b.add(sums, self._neighbours(self._neighbours(products)))

    def word_dots(self, sums, a, b):
        return self.b.add(sums, self.pairs(a, b))

    def packed(self, a, b):
        order = [part + i for q in range(0, 16, 4) for part in (q, 16 + q) for i in range(4)]
        return self.b.trunc(self.shuffle(a, b, order), vector(I16, 32))


ROWS = {"portable": narrow.portable, "wide": rows.row(Slow, vnni.PRODUCTS, in_order=False)}
if "avx2" in build.processor().features:
    ROWS["avx2"] = narrow.avx2
if build.processor().path == "vnni":
    ROWS["vnni"] = vnni.row


@pytest.fixture(scope="module", autouse=True)
def compiled():
    build.compile_all()


@pytest.fixture(scope="module", params=sorted(ROWS))
def by_rows(request):
    """A product as `q8_reference.product`, by the rows of one kind of processor."""
    row = ROWS[request.param]

    @njit
    def all_rows(kind, raw, units, panels, packed, out):
        plain, shuffled, halves, wholes, steps, _ = packed
        blocks, stride = plain.size // 256 // len(out), out.shape[1]
        for at, slot, width in panels[:, 1:]:
            data = at * blocks
            for r in range(len(raw)):
                row(
                    kind, width, address(raw) + r * raw.shape[1], units, address(plain) + data * 256,
                    address(shuffled) + data * 256, address(halves) + data * 32, address(wholes) + data * 16,
                    address(steps) + data * 4, address(out) + 4 * (slot * stride + r), stride,
                )  # fmt: skip

    def times(raw, kind, x):
        packed, panels = packed_rows(x)
        out = np.empty((panels.count, len(raw)), np.float32)
        size = 32 if kind in (TensorType.Q4_0, TensorType.Q8_0) else 256
        all_rows(kind.value, raw, -(-x.shape[1] // size), panels.panels, packed, out)
        return out[: len(x)]

    return times


@pytest.mark.parametrize("tokens", [1, 3, 8, 13])
@pytest.mark.parametrize("columns", [32, 256, 288, 768])
@pytest.mark.parametrize("kind", QUANTIZED, ids=lambda kind: kind.name)
def test_rows_of_every_processor_have_the_same_bits(by_rows, kind, columns, tokens):
    if kind not in (TensorType.Q4_0, TensorType.Q8_0):
        columns = -(-columns // 256) * 256
    rng = np.random.default_rng(columns + tokens)
    raw = random_rows(kind, 9, columns, rng, scale=1.0)
    x = rng.standard_normal((tokens, columns)).astype(np.float32)
    np.testing.assert_array_equal(by_rows(raw, kind, x).view(np.int32), product(raw, kind, x).view(np.int32))


@pytest.mark.parametrize("byte", [0, 127, 128, 255])
@pytest.mark.parametrize("kind", QUANTIZED, ids=lambda kind: kind.name)
def test_no_integer_overflows(by_rows, kind, byte):
    """The largest elements and scales, times activations that are all the largest or the smallest."""
    raw = random_rows(kind, 2, 512, np.random.default_rng(0))
    blocks = raw.reshape(-1, BLOCKS[kind][1])
    blocks[:] = byte
    for at in HALVES[kind]:
        blocks[:, at : at + 2] = np.array([1], np.float16).view(np.uint8)
    weights = dequantize(raw, kind).astype(np.float64)
    for value in (3.0, -3.0):
        x = np.full((9, 512), value, np.float32)
        np.testing.assert_allclose(by_rows(raw, kind, x), x @ weights.T, rtol=1e-5, atol=0.01)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_totals_at_a_time_do_not_show_in_the_bits(heads):
    rng = np.random.default_rng(heads)
    rows = rng.standard_normal((13, 80)).astype(np.float16)
    query, shares = (rng.standard_normal((heads, n)).astype(np.float32) for n in (80, 16))
    scale = np.array([0.3], np.float32)
    found = []
    for most in (4, 16):
        scores, weigh = (kernel(8, make(heads, most)) for make in (lanes._scores, lanes._weigh))

        @njit
        def both(rows, query, shares, scale, scored, weighed, scores=scores, weigh=weigh):
            stride, count, size = rows.strides[0], rows.shape[0], rows.shape[1]
            scores(
                address(rows), stride, count, address(query), size, address(scale), address(scored),
                scored.strides[0],
            )  # fmt: skip
            weigh(
                address(rows), stride, count, address(shares), size, address(weighed), shares.strides[0],
                weighed.strides[0],
            )  # fmt: skip

        scored, weighed = np.empty((heads, 16), np.float32), np.empty((heads, 80), np.float32)
        both(rows.view(np.uint16), query, shares, scale, scored, weighed)
        found.append((scored[:, :13], weighed))
    for narrow_, wide in zip(*found, strict=True):
        np.testing.assert_array_equal(narrow_.view(np.int32), wide.view(np.int32))
    exact = query.astype(np.float64) @ rows.astype(np.float64).T * 0.3
    np.testing.assert_allclose(found[0][0], exact, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[0][1], shares[:, :13] @ rows.astype(np.float64), rtol=1e-5, atol=1e-5)


def assembly(write, instructions, triple, processor):
    """What LLVM makes of a row's kernel for another machine."""
    module = ir.Module("rows")
    module.triple = triple
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 7)
    function = ir.Function(module, kind, "row")
    builder = ir.IRBuilder(function.append_basic_block())
    write(instructions(builder), *function.args)
    builder.ret_void()
    target = binding.Target.from_triple(triple)
    return target.create_target_machine(cpu=processor, opt=3).emit_assembly(
        binding.parse_assembly(str(module))
    )


@pytest.mark.parametrize("width", [1, 4, 8])
@pytest.mark.parametrize(
    ("instructions", "products", "triple", "processor", "one"),
    [
        (Vnni, vnni.PRODUCTS, "x86_64-unknown-linux-gnu", "icelake-server", "vpdpwssd"),
        (Vnni, vnni.PRODUCTS, "x86_64-unknown-linux-gnu", "znver4", "vpdpbusd"),
        (Avx2, narrow.PRODUCTS, "x86_64-unknown-linux-gnu", "haswell", "vpmaddubsw"),
        (Emitter, narrow.PRODUCTS, "aarch64-unknown-linux-gnu", "neoverse-n1", "smull"),
        (Emitter, narrow.PRODUCTS, "x86_64-unknown-linux-gnu", "ivybridge", "vpmullw"),
    ],
)
def test_rows_compile_for_processors_that_are_not_here(instructions, products, triple, processor, one, width):
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    for write in rows.writers(products, width):
        text = assembly(write, instructions, triple, processor)
        assert "row:" in text
    assert one in assembly(rows.writers(products, width)[0], instructions, triple, processor)
