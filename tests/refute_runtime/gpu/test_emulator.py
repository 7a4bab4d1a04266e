"""What the emulator computes, and what it sees of a kernel that is wrong."""

import numpy as np
import pytest
from cuda_emulator import ALIGNMENT, EmulatedBuffer, EmulatedDevice
from device_arrays import Room

from refute_runtime.backends.gpu import nvrtc
from refute_runtime.errors import RuntimeFailure

ORDERS = (0, -1, 1, 2)
HEAD = 'extern "C" __global__ void __launch_bounds__(128)'
RIGHT = f"""
{HEAD} exchange(const int* x, int* out) {{
    const int lane = threadIdx.x & 31, at = threadIdx.x;
    out[at] = __shfl_xor_sync(ALL, x[at], 5);
    out[128 + at] = __shfl_sync(ALL, x[at], (lane + 3) & 31);
    out[256 + at] = (int)__ballot_sync(ALL, x[at] & 1);
}}
{HEAD} reverse(const float* x, float* out, float factor) {{
    __shared__ float room[128];
    const long long first = (blockIdx.y * gridDim.x + blockIdx.x) * 128ll;
    room[threadIdx.x] = x[first + threadIdx.x];
    __syncthreads();
    out[first + threadIdx.x] = __fmaf_rn(room[127 - threadIdx.x], factor, 1.0f);
}}
{HEAD} dots(const int* a, const int* b, int* out) {{
    out[threadIdx.x] = __dp4a(a[threadIdx.x], b[threadIdx.x], (int)threadIdx.x);
}}
{HEAD} products(const int* a, const int* b, int* out) {{
    const int lane = threadIdx.x, row = lane >> 2, part = lane & 3;
    const int *upper = a + row * 8 + part, *lower = upper + 64;
    const int mine[4] = {{upper[0], lower[0], upper[4], lower[4]}};
    int c[4] = {{}};
    multiply_32(c, mine, b[row * 8 + part], b[row * 8 + part + 4]);
    for (int i = 0; i < 4; i++) out[(row + 8 * (i >> 1)) * 8 + 2 * part + (i & 1)] = c[i];
}}
{HEAD} arrive(int* counter, int* last, long long all) {{
    if (last_to_arrive(counter, (int)all) && threadIdx.x == 0) last[blockIdx.x] = 1;
}}
{HEAD} unset(float* out) {{
    __shared__ float room[128];
    out[threadIdx.x] = room[threadIdx.x];
    room[threadIdx.x] = 1.0f;
}}
"""
WRONG = f"""
{HEAD} unbalanced(int* x) {{
    if (threadIdx.x != 3) __syncthreads();
    else x[0] = __shfl_sync(ALL, 1, 0);
}}
{HEAD} unlike(int* x) {{
    x[threadIdx.x] = threadIdx.x & 1 ? __shfl_sync(ALL, 1, 0) : (int)__ballot_sync(ALL, true);
}}
{HEAD} gone(int* x) {{
    if (threadIdx.x & 1) return;
    x[threadIdx.x] = __shfl_xor_sync(ALL, 1, 2);
}}
{HEAD} masked(int* x) {{
    if (threadIdx.x < 16) x[threadIdx.x] = __shfl_sync(0xffffu, 1, 0);
}}
{HEAD} racing(int* x) {{
    __shared__ int room[128];
    room[threadIdx.x] = (int)threadIdx.x;
    x[threadIdx.x] = room[127 - threadIdx.x];
}}
{HEAD} ahead(int* x) {{
    __shared__ int room[128];
    room[threadIdx.x] = (int)threadIdx.x;
    for (int i = 0; i < 20; i++) __syncwarp();
    x[threadIdx.x] = room[127 - threadIdx.x];
}}
{HEAD} behind(int* x, long long at) {{ if (threadIdx.x == 5) x[at] = 1; }}
{HEAD} misaligned(const char* x, int* out) {{ out[threadIdx.x] = *(const int*)(x + 2); }}
{HEAD} outside(int* x, long long at) {{
    __shared__ int room[8];
    room[threadIdx.x & 7] = 1;
    x[0] = room[at];
}}
"""


@pytest.fixture(scope="module")
def written(device):
    """The emulator with kernels of this file; `device` skips where there is none."""
    shared = nvrtc.text("rows").split('#line 1 "rows.cu"')[0]
    return EmulatedDevice({"right": shared + RIGHT, "wrong": shared + WRONG})


@pytest.fixture(params=ORDERS, ids=lambda order: f"order{order}")
def mine(request, written, monkeypatch):
    monkeypatch.setattr(written, "order", request.param)
    return Room(written)


def launch(room, kernel, *arguments, grid=(1, 1, 1), threads=128):
    room.device.launch(kernel, grid, (threads, 1, 1), arguments)


def integers(*shape):
    return np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)


def test_lanes_exchange_what_they_hold(mine):
    x, out = np.random.default_rng(0).integers(0, 1000, 128, np.int32), mine.make(3, 128, dtype=np.int32)
    launch(mine, "exchange", mine.put(x), out)
    crossed, rotated, votes = mine.take(out, 3, 128, dtype=np.int32)
    lanes, warps = np.arange(32), x.reshape(4, 32)
    np.testing.assert_array_equal(crossed, warps[:, lanes ^ 5].reshape(-1))
    np.testing.assert_array_equal(rotated, warps[:, (lanes + 3) % 32].reshape(-1))
    expected = ((warps & 1).astype(np.uint64) << lanes.astype(np.uint64)).sum(1).astype(np.uint32)
    np.testing.assert_array_equal(votes.view(np.uint32), expected.repeat(32))


def test_threads_meet_at_barriers_in_every_block(mine):
    x, out = np.arange(768, dtype=np.float32), mine.make(6, 128)
    launch(mine, "reverse", mine.put(x), out, np.float32(0.5), grid=(3, 2, 1))
    np.testing.assert_array_equal(mine.take(out, 6, 128), x.reshape(6, 128)[:, ::-1] * np.float32(0.5) + 1)


def test_bytes_are_multiplied_with_their_signs(mine):
    a, b = integers(2, 128, 4)
    out = mine.make(128, dtype=np.int32)
    launch(mine, "dots", mine.put(a), mine.put(b), out)
    expected = (a.astype(np.int32) * b).sum(1) + np.arange(128)
    np.testing.assert_array_equal(mine.take(out, 128, dtype=np.int32), expected)


def test_tensor_cores_multiply_matrices(mine):
    a, b = integers(16, 32), integers(8, 32)
    out = mine.make(16, 8, dtype=np.int32)
    launch(mine, "products", mine.put(a), mine.put(b), out, threads=32)
    np.testing.assert_array_equal(
        mine.take(out, 16, 8, dtype=np.int32), a.astype(np.int32) @ b.T.astype(np.int32)
    )


def test_one_block_is_the_last(mine):
    counter, last = mine.put(np.zeros(1, np.int32)), mine.put(np.zeros(7, np.int32))
    for times in (1, 2):  # the counter is zero again
        launch(mine, "arrive", counter, last, 7, grid=(7, 1, 1))
        assert mine.take(last, 7, dtype=np.int32).sum() in {1, times}
        assert mine.take(counter, 1, dtype=np.int32) == 0


def test_shared_memory_holds_nothing_from_before(mine):
    out = mine.make(128)
    launch(mine, "unset", out, grid=(2, 1, 1))
    assert np.isnan(mine.take(out, 128)).all()


def test_what_is_recorded_runs_when_it_is_launched(mine):
    out, zeros = mine.make(128), mine.put(np.zeros(128, np.float32))
    with mine.device.capture() as graphs:
        launch(mine, "reverse", zeros, out, np.float32(0))
    assert np.isnan(mine.take(out, 128)).all()
    graphs[0].launch()
    assert (mine.take(out, 128) == 1).all()


def test_nothing_but_launches_is_recorded(mine):
    out = mine.make(128)
    with pytest.raises(AssertionError, match="only launches are recorded"), mine.device.capture():
        mine.take(out, 128)


@pytest.mark.parametrize(
    ("kernel", "told"),
    [
        ("unbalanced", r"threads wait for one another: 127 at __syncthreads \(thread 0 ...\) 1 at a shuffle"),
        ("unlike", r"is at a (shuffle|ballot) while lanes of its warp are at a (ballot|shuffle)"),
        (
            "gone",
            r"a shuffle asks for all lanes, of which \d+ have ended|has ended while lanes of its warp meet",
        ),
        ("masked", "only masks of all lanes are emulated"),
    ],
)
def test_threads_that_do_not_meet_are_told_apart(mine, kernel, told):
    out = mine.make(128, dtype=np.int32)
    with pytest.raises(
        RuntimeFailure, match=rf"^{kernel}, emulated: block \(0, 0, 0\), thread \d+: ({told})"
    ):
        launch(mine, kernel, out)


def test_a_missing_barrier_shows_in_another_order(written, monkeypatch):
    room, expected = Room(written), np.arange(128)[::-1]
    found = []
    for order in (0, -1):
        monkeypatch.setattr(written, "order", order)
        out = room.make(128, dtype=np.int32)
        launch(room, "racing", out)
        found.append(room.take(out, 128, dtype=np.int32) == expected)
    assert (found[0] != found[1]).any()


@pytest.mark.parametrize(("order", "early"), [(0, slice(0, 64)), (-1, slice(64, 128))])
def test_a_warp_is_ahead_by_as_much_as_barriers_allow(written, monkeypatch, order, early):
    monkeypatch.setattr(written, "order", order)
    room = Room(written)
    out = room.make(128, dtype=np.int32)
    launch(room, "ahead", out)
    wrong = room.take(out, 128, dtype=np.int32) != np.arange(128)[::-1]
    np.testing.assert_array_equal(np.flatnonzero(wrong), np.arange(128)[early])


@pytest.mark.parametrize("at", [4, 1023, -1021, -2044])
def test_an_address_outside_is_told(written, at):
    """On the page behind a buffer of 16 bytes, and on the one before its own."""
    room = Room(written)
    x = room.put(np.zeros(4, np.int32))
    with pytest.raises(
        RuntimeFailure, match=r"behind, emulated: .* thread 5: touches the address 0x\w+, which"
    ):
        launch(room, "behind", x, at)


def test_what_is_written_on_the_pages_of_a_buffer_is_told(written):
    room = Room(written)
    x = room.put(np.zeros(5, np.int32))
    for at, where in ((-1, "before"), (5, "behind")):
        launch(room, "behind", x, at)
        with pytest.raises(RuntimeFailure, match=f"a kernel wrote {where} a buffer of 20 bytes"):
            room.take(x, 5, dtype=np.int32)
    np.testing.assert_array_equal(room.take(x, 5, dtype=np.int32), 0)


@pytest.mark.parametrize(
    ("kernel", "arguments", "told"),
    [
        ("misaligned", ("x", "x"), "an address is not aligned"),
        ("outside", ("x", 8), "an index is outside its array"),
    ],
)
def test_what_the_compiler_checks_is_told_with_its_line(written, kernel, arguments, told):
    room = Room(written)
    x = room.put(np.zeros(128, np.int32))
    with pytest.raises(RuntimeFailure, match=rf"{kernel}, emulated: .*:\d+: {told}"):
        launch(room, kernel, *(x if each == "x" else each for each in arguments))


def test_the_emulator_computes_on_after_a_failure(written):
    room = Room(written)
    with pytest.raises(RuntimeFailure):
        launch(room, "unbalanced", room.make(128, dtype=np.int32))
    out = room.make(128)
    launch(room, "reverse", room.put(np.zeros(128, np.float32)), out, np.float32(0))
    assert (room.take(out, 128) == 1).all()


def test_a_block_of_too_many_threads_is_refused(written):
    with pytest.raises(RuntimeFailure, match="a block has 1025 threads, expected 1 to 1024"):
        launch(Room(written), "unset", 0, threads=1025)


def test_buffers_are_aligned_and_no_more_than_kernels_rely_on():
    found = [EmulatedBuffer(nbytes) for nbytes in (1, 15, 17, 4097)]
    assert all(buffer.address % ALIGNMENT == 0 for buffer in found)
    assert [buffer.bytes.size for buffer in found] == [1, 15, 17, 4097]
