"""How long an operation must take: bytes by the memory's bandwidth, or instructions by the clock.

Instructions are counted in the source of the kernels, for a core that begins, in a cycle, two 512-bit (or
four narrower) vector instructions, of them one dot product and one load of 512 bits: AMD's Zen 4, and nearly
so its neighbours. A count leaves out loops, calls and waiting for results, so it bounds from below.
"""

from dataclasses import dataclass

# Cycles that 256 weights take times one token alone, and times each of a panel of eight.
#
# Q4_K: a block is unpacked by 8 vector instructions and 12 narrow ones for its scales; for each token there
# are 4 dot products of bytes, 2 packs and 2 dot products of int16, and 20 narrow instructions to add the
# lanes, convert and subtract the minimums. Of eight tokens lanes are added together, 4 instructions each.
# Q5_K: 10 more to unpack. Q6_K: 10 more, and minimums are part of the same sum.
# Q8_0, Q4_0: eight blocks with one 256-bit dot product each, 8 instructions to add its lanes, 9 to unpack.
# Floats: two loads for 16 products, and one more instruction or two to widen; no panels.
CYCLES = {
    "Q4_K": (17.0, 8.0),
    "Q5_K": (22.0, 9.0),
    "Q6_K": (20.0, 9.0),
    "Q8_0": (46.0, 24.0),
    "Q4_0": (50.0, 24.0),
    "F16": (32.0, 32.0),
    "BF16": (36.0, 36.0),
    "F32": (32.0, 32.0),
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes that memory has to give, and cycles of one core. serial: whether one thread does all of it."""

    nbytes: float
    cycles: float
    serial: bool = False

    def seconds(
        self, bandwidth: float, clock: float, threads: int, *, counted: bool
    ) -> tuple[float | None, str]:
        """The slower of the two, and which it is; None where instructions were not counted and may decide.

        bandwidth: bytes per second of so many threads. clock: cycles per second of one core.
        """
        if not counted:
            return None, "not counted"
        reading = self.nbytes / bandwidth
        computing = self.cycles / (clock * (1 if self.serial else threads))
        return max(reading, computing), "memory" if reading > computing else "instructions"


def product(kind: str, weights: float, tokens: int, nbytes: float) -> Bounds:
    """Multiply weights with tokens. nbytes: of the weights, which are read once."""
    alone, in_panel = CYCLES[kind]
    return Bounds(nbytes, weights * tokens / 256 * (alone if tokens == 1 else in_panel))


def attention(pairs: float, size: int, nbytes: float) -> Bounds:
    """Pairs of a query and a row: one multiplication, and so one cycle, for 16 products of scores or sums.

    Four heads, and in the scores four rows too, go together: what is loaded, widened from float16 and spread
    fits beside the multiplications. The lanes of four scores are added by 15 instructions; an exponential
    takes 20 for 16 scores. nbytes: of keys and values.
    """
    return Bounds(nbytes, pairs * (size / 16 * 2 + 2 + 1))
