"""The few kernels of a decoded token: the bits of the operations one by one."""

import numpy as np
import pytest
import q8_reference
from gguf import GGMLQuantizationType as TensorType

from refute_runtime.backends.gpu import decoding, launches
from refute_runtime.backends.gpu.decoding import Attention
from refute_runtime.backends.gpu.launches import SPLIT, Heads

pytestmark = pytest.mark.usefixtures("cpu_kernels")

Q4_K, Q5_K, Q6_K, Q8_0 = TensorType.Q4_K, TensorType.Q5_K, TensorType.Q6_K, TensorType.Q8_0
F32, F16 = TensorType.F32, TensorType.F16


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rows_of(kind, rows, columns, seed=0, scale=0.01):
    return q8_reference.random_rows(kind, rows, columns, np.random.default_rng(seed), scale)


def rounded(room, x):
    """Rows on the device, rounded there."""
    to = room.rounded(*x.shape)
    launches.round_rows(room.device, room.put(x), len(x), to)
    return to


def check_rounded(room, found, x):
    for one, other in zip(room.rounded_arrays(found, len(x)), q8_reference.rounded(x), strict=True):
        np.testing.assert_array_equal(one, other)


def counters(room, count):
    return room.put(np.zeros(count, np.int32))


def check_zero(room, address, count):
    np.testing.assert_array_equal(room.take(address, count, dtype=np.int32), 0)


@pytest.mark.parametrize(
    ("kinds", "rows", "columns"),
    [
        ((Q4_K, Q4_K, Q6_K), (40, 9, 9), 512),
        ((Q8_0, F16), (7, 6), 96),
        ((Q6_K,), (300,), 256),
        ((F32,), (5,), 50),
    ],
    ids=str,
)
@pytest.mark.parametrize("blocks", [1, 264])
def test_norm_and_projections(room, monkeypatch, kinds, rows, columns, blocks):
    monkeypatch.setattr(decoding, "BLOCKS_OF_THREADS", blocks)
    raws = [
        rows_of(kind, count, columns, seed)
        for seed, (kind, count) in enumerate(zip(kinds, rows, strict=True))
    ]
    x, weight, out = noise(1, columns), noise(columns, seed=1), room.make(sum(rows))
    matrices = [room.matrix(raw, kind, columns) for raw, kind in zip(raws, kinds, strict=True)]
    decoding.norm_multiply(room.device, room.put(x), room.put(weight), 1e-6, matrices, out)
    normed = q8_reference.norm(x, weight, 1e-6)
    expected = [q8_reference.product(raw, kind, normed)[0] for raw, kind in zip(raws, kinds, strict=True)]
    np.testing.assert_array_equal(room.take(out, sum(rows)), np.concatenate(expected))


@pytest.mark.parametrize("kind", [Q4_K, Q5_K, Q6_K, Q8_0, F16], ids=lambda kind: kind.name)
def test_projection_and_residual(room, kind):
    raw, y, x = rows_of(kind, 19, 2560), noise(1, 2560), noise(19, seed=1)
    out = room.put(x)
    decoding.multiply_add(
        room.device, room.matrix(raw, kind, 2560), out, out, rounded=rounded(room, y), floats=room.put(y)
    )
    np.testing.assert_array_equal(room.take(out, 19), x + q8_reference.product(raw, kind, y)[0])


@pytest.mark.parametrize("length", [0, 1, SPLIT - 1, SPLIT, 2 * SPLIT + 9, SPLIT * SPLIT + 70])
@pytest.mark.parametrize(
    ("of", "merged"),
    [
        (Heads(8, 2, 64), 32),
        (Heads(6, 2, 16), 32),
        (Heads(32, 2, 32), 32),
        (Heads(9, 1, 256), 32),
        (Heads(8, 2, 64), 0),
    ],
    ids=str,
)
def test_attention(room, monkeypatch, of, merged, length):
    monkeypatch.setattr(decoding, "_MERGED", merged)
    N, G, D = of.N, of.G, of.D
    both, weights, position = noise(1, (N + 2 * G) * D), (noise(D, seed=1), noise(D, seed=2)), length + 3
    angle = np.arange(position + 2)[:, None] * 100.0 ** (-np.arange(D // 2) / D)
    tables = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    rows = [noise(length + 2, G, D, seed=seed).astype(np.float16) for seed in (3, 4)]
    here = tuple(each[position : position + 1] for each in tables)
    q, k, v = q8_reference.heads(both, N, G, weights, here, 1e-6)
    seen = [
        np.concatenate([old[:length], new.astype(np.float16)]) for old, new in zip(rows, (k, v), strict=True)
    ]
    expected = q8_reference.attention(q, *seen, length)

    splits, count = length // SPLIT + 2, decoding.groups(of)
    attention = Attention(splits, room.make(N, splits, 2), room.make(N, splits, D), counters(room, count))
    cache, out, to = tuple(map(room.put, rows)), room.make(N * D), room.rounded(1, N * D)
    state = room.put(np.array([0, position, length, 0], np.int64))
    decoding.attend_token(
        room.device, room.put(both), of, tuple(map(room.put, weights)), tuple(map(room.put, tables)), 1e-6,
        state, cache, attention, out, to,
    )  # fmt: skip
    np.testing.assert_array_equal(room.take(out, 1, N * D), expected)
    check_rounded(room, to, expected)
    check_zero(room, attention.counters, count)
    for address, old, new in zip(cache, rows, seen, strict=True):
        kept = room.take(address, length + 2, G, D, dtype=np.float16)
        np.testing.assert_array_equal(kept[:-1], new)
        np.testing.assert_array_equal(kept[-1], old[-1])


@pytest.mark.parametrize(("E", "K", "H"), [(128, 8, 512), (5, 3, 100), (16, 16, 256)])
def test_norm_and_routing(room, E, K, H):
    raw, x, weight = rows_of(F32, E, H, scale=0.1), noise(1, H), noise(H, seed=1)
    logits, chosen, shares, gaps = room.make(E), room.make(K, dtype=np.int64), room.make(K), room.make(1)
    normed, to, counter = room.make(H), room.rounded(1, H), counters(room, 1)
    decoding.route_one(
        room.device, room.put(x), room.put(weight), 1e-6, room.matrix(raw, F32, H), K, logits, chosen, shares,
        gaps, counter, normed=normed, rounded=to,
    )  # fmt: skip
    h = q8_reference.norm(x, weight, 1e-6)
    expected = q8_reference.route(q8_reference.product(raw, F32, h), K)
    np.testing.assert_array_equal(room.take(normed, 1, H), h)
    check_rounded(room, to, h)
    np.testing.assert_array_equal(room.take(chosen, 1, K, dtype=np.int64), expected[0])
    np.testing.assert_array_equal(room.take(shares, 1, K), expected[1])
    np.testing.assert_array_equal(room.take(gaps, 1), expected[2])
    check_zero(room, counter, 1)


EXPERTS = [
    (Q4_K, Q4_K, Q4_K, 256, 512), (Q4_K, Q5_K, Q6_K, 256, 768), (Q8_0, Q8_0, Q8_0, 96, 64),
    (Q6_K, F16, F16, 256, 70), (F32, F32, Q8_0, 50, 288),
]  # fmt: skip


@pytest.mark.parametrize(("gate_kind", "up_kind", "down_kind", "H", "F"), EXPERTS, ids=str)
def test_experts(room, gate_kind, up_kind, down_kind, H, F):
    E, K = 6, 5
    chosen, shares, x, residual = np.array([0, 2, 3, 4, 5]), noise(K), noise(1, H), noise(H, seed=9)
    gates, ups = (
        rows_of(kind, E * F, H, seed).reshape(E, F, -1) for seed, kind in enumerate((gate_kind, up_kind))
    )
    downs = rows_of(down_kind, E * H, F, seed=3).reshape(E, H, -1)
    blocks = -(-F // 256)
    h, to, ids, counter = room.make(K, F), room.rounded(K, F), room.put(chosen), counters(room, K * blocks)
    gate, up = room.matrix(gates, gate_kind, H), room.matrix(ups, up_kind, H)
    decoding.gate_up(
        room.device, gate, up, K, h, counter, chosen=ids, rounded=rounded(room, x), floats=room.put(x), to=to
    )
    expected = np.concatenate(
        [
            q8_reference.swiglu(
                q8_reference.product(gates[e], gate_kind, x), q8_reference.product(ups[e], up_kind, x)
            )
            for e in chosen
        ]
    )
    np.testing.assert_array_equal(room.take(h, K, F), expected)
    check_rounded(room, to, expected)
    check_zero(room, counter, K * blocks)

    out, down = room.put(residual), room.matrix(downs, down_kind, F)
    decoding.down_add(
        room.device, down, K, out, out, chosen=ids, shares=room.put(shares), rounded=to, floats=h
    )
    results = np.concatenate(
        [q8_reference.product(downs[e], down_kind, expected[j : j + 1]) for j, e in enumerate(chosen)]
    )
    summed = q8_reference.weighted_sum(results, shares[None])[0]
    np.testing.assert_array_equal(room.take(out, H), residual + summed)


def test_a_feed_forward_without_experts(room):
    H, F = 256, 512
    gate, up, down = rows_of(Q4_K, F, H), rows_of(Q4_K, F, H, 1), rows_of(Q6_K, H, F, 2)
    x, residual = noise(1, H), noise(H, seed=1)
    h, to, counter, out = room.make(1, F), room.rounded(1, F), counters(room, 2), room.make(H)
    matrices = room.matrix(gate, Q4_K, H), room.matrix(up, Q4_K, H)
    decoding.gate_up(room.device, *matrices, 1, h, counter, rounded=rounded(room, x), to=to)
    decoding.down_add(room.device, room.matrix(down, Q6_K, F), 1, room.put(residual), out, rounded=to)
    between = q8_reference.swiglu(q8_reference.product(gate, Q4_K, x), q8_reference.product(up, Q4_K, x))
    np.testing.assert_array_equal(room.take(out, H), residual + q8_reference.product(down, Q6_K, between)[0])


def test_what_has_no_room_is_refused(room):
    wide = room.matrix(rows_of(Q4_K, 4, 8192), Q4_K, 8192)
    to = room.rounded(3, 8192)
    with pytest.raises(ValueError, match="3 rows of 8192 activations, expected 16384 at most"):
        decoding.down_add(room.device, wide, 3, 8, 8, chosen=8, shares=8, rounded=to)
    with pytest.raises(ValueError, match="up to 3 of the same"):
        decoding.norm_multiply(room.device, 8, 8, 1e-6, [], 8)
