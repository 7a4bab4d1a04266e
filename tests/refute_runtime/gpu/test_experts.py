"""Routing and experts: the bits of the `cpu` backend, and an order that no scheduling of the GPU changes."""

import numpy as np
import pytest
import q8_reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refute_runtime.backends.gpu import launches, layouts
from refute_runtime.backends.gpu.launches import TILE, WIDE_TILE, Grouping

pytestmark = pytest.mark.usefixtures("cpu_kernels")

SAME_ROOM = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


def routed(room, logits, K):
    T, E = logits.shape
    chosen, shares, gaps = room.make(T, K, dtype=np.int64), room.make(T, K), room.make(T)
    launches.route(room.device, room.put(logits), T, E, K, chosen, shares, gaps)
    return room.take(chosen, T, K, dtype=np.int64), room.take(shares, T, K), room.take(gaps, T)


@st.composite
def scores(draw):
    """Logits (T, E) with ties and what is no number among them, and K."""
    T, E = draw(st.integers(1, 3)), draw(st.sampled_from([1, 5, 16, 33, 128]))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    logits = rng.standard_normal((T, E)).astype(np.float32) * 3
    kind = draw(st.sampled_from(["any", "ties", "nan", "inf", "far"]))
    if kind == "ties":
        logits = np.rint(logits)
    elif kind == "nan":
        logits[rng.random(logits.shape) < 0.2] = np.nan
    elif kind == "inf":
        logits[rng.random(logits.shape) < 0.1] = -np.inf
    elif kind == "far":
        logits *= np.float32(40)
    return logits, draw(st.integers(1, min(E, 9)))


@SAME_ROOM
@given(scores())
def test_routing_is_the_cpu_backends(room, case):
    for found, expected in zip(routed(room, *case), q8_reference.route(*case), strict=True):
        np.testing.assert_array_equal(found, expected)


def grouped(room, chosen, E, tile=TILE):
    choices, most = chosen.size, launches.most_tiles(chosen.size, E, tile)
    to = Grouping(
        room.make(E, dtype=np.int64), room.make(choices, dtype=np.int64), room.make(most, 3, dtype=np.int64),
        room.make(1, dtype=np.int64), tile,
    )  # fmt: skip
    launches.group(room.device, room.put(chosen), choices, E, to)
    return to


@SAME_ROOM
@given(
    choices=st.integers(1, 150), E=st.integers(1, 40), few=st.integers(1, 40), seed=st.integers(0, 99),
    tile=st.sampled_from([TILE, WIDE_TILE]),
)  # fmt: skip
def test_choices_are_grouped_by_expert_in_the_order_of_tokens(room, choices, E, few, seed, tile):
    chosen = np.random.default_rng(seed).integers(0, min(E, few), choices)
    to = grouped(room, chosen, E, tile)
    order = room.take(to.order, choices, dtype=np.int64)
    np.testing.assert_array_equal(order, np.argsort(chosen, kind="stable"))
    count = room.take(to.tile_count, 1, dtype=np.int64)[0]
    tiles = room.take(to.tiles, launches.most_tiles(choices, E, tile), 3, dtype=np.int64)[:count]
    done = 0
    for expert, first, many in tiles:
        assert first == done
        assert 1 <= many <= tile
        assert (chosen[order[first : first + many]] == expert).all()
        done += many
    assert done == choices
    assert count == sum(-(-n // tile) for n in np.bincount(chosen))


@pytest.mark.parametrize(
    ("kind", "tile"),
    [(kind, tile) for kind in layouts.TYPES for tile in (1, TILE, WIDE_TILE)
     if tile < WIDE_TILE or kind not in layouts.FLOATS],
    ids=lambda value: getattr(value, "name", value),
)  # fmt: skip
def test_each_choice_is_multiplied_by_its_experts_matrix(room, kind, tile):
    T, K, E, C, rows, rng = 27, 3, 4, 256, 22, np.random.default_rng(3)
    raw = q8_reference.random_rows(kind, E * rows, C, rng).reshape(E, rows, -1)
    x = rng.standard_normal((T, C)).astype(np.float32)
    chosen = np.sort(np.array([rng.permutation(E)[:K] for _ in range(T)]), axis=1)
    address, rounded, out = room.put(x), room.rounded(T, C), room.make(T * K, 2 * rows)
    launches.round_rows(room.device, address, T, rounded)
    launches.expert_multiply(
        room.device, room.matrix(raw, kind, C), E, room.put(chosen), T * K, out, per=K, rounded=rounded,
        x=address, grouping=None if tile == 1 else grouped(room, chosen, E, tile), stride=2 * rows,
        column=rows,
    )  # fmt: skip
    expected = np.array(
        [q8_reference.product(raw[e], kind, x[t : t + 1])[0] for t in range(T) for e in chosen[t]]
    )
    found = room.take(out, T * K, 2 * rows)
    np.testing.assert_array_equal(found[:, rows:], expected)
    assert np.isnan(found[:, :rows]).all()
