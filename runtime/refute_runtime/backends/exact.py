"""Float32 arithmetic as the numerics `q8` fix it, in NumPy: what is rounded once, and in which order sums go.

Sums are over the last axis; arrays broadcast.
"""

import numpy as np

Floats = np.ndarray | np.float32
LANES = 16
_LOG2_E = np.float32(1.4426950216293335)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.1219444170128554e-04)
_EXP = tuple(  # Cephes' polynomial of e ** r, from r ** 7 down to r ** 2
    np.float32(value)
    for value in (
        0.00019875691214110702, 0.0013981999363750219, 0.008333452045917511, 0.041665799915790558,
        0.16666665673255920, 0.5,
    )
)  # fmt: skip


def fma(a: Floats, b: Floats, c: Floats) -> np.ndarray:
    """Multiply and add float32, rounded once: a * b + c.

    The product is exact in float64. The sum is rounded to float64 in such a way (to the neighbour whose last
    bit is odd, where it is not exact) that rounding it once more, to float32, gives what one rounding gives.
    """
    with np.errstate(all="ignore"):
        product = np.multiply(a, b, dtype=np.float64)
        addend = np.asarray(c, np.float64)
        total = product + addend
        back = total - product
        error = (product - (total - back)) + (addend - back)  # exact: Knuth's sum of two
        inexact = np.isfinite(total) & (error != 0)
        even = (total.view(np.int64) & 1) == 0
        odd = np.where(inexact & even, np.nextafter(total, np.copysign(np.inf, error)), total)
        rounded: np.ndarray = odd.astype(np.float32)
        return rounded


def folded(lanes: np.ndarray) -> np.ndarray:
    """Add the upper half of 2 ** n lanes to the lower one until one is left."""
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dot product in 32 lanes, each by fused multiply-adds; what is behind the last 32 comes one by one."""
    shape = np.broadcast_shapes(a.shape[:-1], b.shape[:-1])
    count = a.shape[-1]
    lanes, rest = np.zeros((*shape, 2 * LANES), np.float32), np.zeros(shape, np.float32)
    whole = count - count % (2 * LANES)
    for at in range(0, whole, 2 * LANES):
        lanes = fma(a[..., at : at + 2 * LANES], b[..., at : at + 2 * LANES], lanes)
    for at in range(whole, count):
        rest = fma(a[..., at], b[..., at], rest)
    return folded(lanes) + rest


def score(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Dot product of heads, of a multiple of 16 elements: in 16 lanes, which are added by fours first."""
    lanes = np.zeros((*np.broadcast_shapes(query.shape[:-1], key.shape[:-1]), LANES), np.float32)
    for at in range(0, query.shape[-1], LANES):
        lanes = fma(query[..., at : at + LANES], key[..., at : at + LANES], lanes)
    fours = lanes.reshape(*lanes.shape[:-1], 4, 4)
    quads = (fours[..., 0] + fours[..., 2]) + (fours[..., 1] + fours[..., 3])
    return folded(quads)


def total(x: np.ndarray) -> np.ndarray:
    """Sum in 16 lanes; what is behind the last 16 comes one by one."""
    lanes, rest = np.zeros((*x.shape[:-1], LANES), np.float32), np.zeros(x.shape[:-1], np.float32)
    whole = x.shape[-1] - x.shape[-1] % LANES
    for at in range(0, whole, LANES):
        lanes = lanes + x[..., at : at + LANES]
    for at in range(whole, x.shape[-1]):
        rest = rest + x[..., at]
    return folded(lanes) + rest


def highest(x: np.ndarray) -> np.ndarray:
    """Largest; what is no number is passed over, and of nothing else it is minus infinity."""
    found: np.ndarray = np.fmax.reduce(x, axis=-1, initial=np.float32(-np.inf))
    return found


def exp(x: np.ndarray) -> np.ndarray:
    """Exponential of float32, from -87 to 88, and what is beyond as these; NaN stays NaN.

    x is n ln 2 + r, and e ** r is Cephes' polynomial.
    """
    with np.errstate(all="ignore"):
        y = np.where(x > np.float32(88), np.float32(88), x)
        y = np.where(y < np.float32(-87), np.float32(-87), y)
        n = np.rint(y * _LOG2_E)
        r = fma(n, -_LN2_HIGH, y)
        r = fma(n, -_LN2_LOW, r)
        p = np.broadcast_to(_EXP[0], r.shape)
        for coefficient in _EXP[1:]:
            p = fma(p, r, coefficient)
        p = fma(p, r * r, r) + np.float32(1)
        power = (np.where(np.isnan(n), 0, n).astype(np.int32) + 127) << 23
        found: np.ndarray = np.where(np.isnan(x), x, p * power.view(np.float32))
        return found
