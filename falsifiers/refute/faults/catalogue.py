"""Every fault that a falsifier can be made to catch, as data, by the seam that it goes in.

Importing this module imports nothing heavy: the wrappers that plant them are in the modules named after the
seams. Faults of the cache, and `routing-depends-on-cache`, touch only the arm that uses the cache, so that
the slow twin stays honest.
"""

from refute.faults.base import FaultSpec

ALL_LAYERS = 1000.0
"""A dose that counts layers is clipped to those that the model has."""

ALL_TOKENS = 1000.0
"""A dose that counts tokens of the prompt, or forwards of a request, is clipped to those that there are."""

MODEL: tuple[FaultSpec, ...] = ()

CACHE = (
    FaultSpec(
        name="rope-position",
        seam="cache",
        breaks="Tokens after the first forward get a RoPE position that is off.",
        default=1.0,
        doses=(),
        unit="positions",
    ),
    FaultSpec(
        name="stale-row",
        seam="cache",
        breaks="The last cached rows of the prompt hold older rows.",
        default=8.0,
        doses=(1.0, 2.0, 4.0),
        unit="rows",
    ),
    FaultSpec(
        name="lost-row-at-chunk-border",
        seam="cache",
        breaks="The last rows of each prefill chunk are missing from the cache.",
        default=1.0,
        doses=(),
        unit="rows",
    ),
    FaultSpec(
        name="kv-heads-permuted",
        seam="cache",
        breaks="Cached keys and values are read under the wrong kv head.",
        default=ALL_LAYERS,
        doses=(1.0,),
        unit="layers",
    ),
    FaultSpec(
        name="empty-cache",
        seam="cache",
        breaks="The rows of the prompt are gone when decoding begins.",
        default=1.0,
        doses=(),
        unit="times",
    ),
    FaultSpec(
        name="phantom-row",
        seam="cache",
        breaks="An empty cache answers with a row of zeros before the first token.",
        default=1.0,
        doses=(),
        unit="rows",
    ),
    FaultSpec(
        name="cache-ignored",
        seam="cache",
        breaks="Decoding computes the whole prefix again for every token; the tokens stay right.",
        default=1.0,
        doses=(),
        unit="times",
    ),
)

SAMPLER = (
    FaultSpec(
        name="seed-ignored",
        seam="sampler",
        breaks="Requests draw from fresh entropy, whatever their seed.",
        default=1.0,
        doses=(0.25, 0.5),
        unit="of requests",
    ),
    FaultSpec(
        name="seed-fixed",
        seam="sampler",
        breaks="Requests draw from one and the same seed, whatever they ask for.",
        default=1.0,
        doses=(0.25, 0.5),
        unit="of requests",
    ),
    FaultSpec(
        name="temperature-scaled",
        seam="sampler",
        breaks="The temperature is multiplied before it is used.",
        default=1.5,
        doses=(1.1, 1.25),
        unit="x",
    ),
    FaultSpec(
        name="top-k-widened",
        seam="sampler",
        breaks="Top-k keeps more tokens than it was asked for.",
        default=3.0,
        doses=(1.0, 2.0),
        unit="tokens",
    ),
    FaultSpec(
        name="greedy-sampled",
        seam="sampler",
        breaks="Temperature 0 is run at a temperature above 0.",
        default=1.0,
        doses=(0.25,),
        unit="temperature",
    ),
    FaultSpec(
        name="penalty-twice",
        seam="sampler",
        breaks="The repetition penalty is applied again to every token.",
        default=1.0,
        doses=(0.25, 0.5),
        unit="extra times",
    ),
    FaultSpec(
        name="penalty-ignored",
        seam="sampler",
        breaks="A share of the repetition penalty's logarithm is lost.",
        default=1.0,
        doses=(0.25, 0.5),
        unit="of the penalty",
    ),
    FaultSpec(
        name="penalty-per-occurrence",
        seam="sampler",
        breaks="Each further occurrence of a token adds this share of the penalty again.",
        default=1.0,
        doses=(0.25, 0.5),
        unit="of the penalty",
    ),
    FaultSpec(
        name="penalty-sign",
        seam="sampler",
        breaks="Negative logits are not multiplied by the penalty: at 0.5 they stay, at 1 they are divided.",
        default=1.0,
        doses=(0.25, 0.5),
        unit="of the way",
    ),
    FaultSpec(
        name="penalty-at-one",
        seam="sampler",
        breaks="A repetition penalty of 1 is run as one above 1.",
        default=0.3,
        doses=(0.05, 0.1),
        unit="above 1",
    ),
    FaultSpec(
        name="penalty-window",
        seam="sampler",
        breaks="The first tokens of the prompt are not in the penalty's window.",
        default=ALL_TOKENS,
        doses=(1.0, 4.0, 16.0),
        unit="tokens",
    ),
)

BACKEND = (
    FaultSpec(
        name="dense-dispatch",
        seam="backend",
        breaks="The first MoE layers run a dense feed-forward of one expert's weights.",
        default=ALL_LAYERS,
        doses=(1.0,),
        unit="layers",
    ),
    FaultSpec(
        name="dense-on-some-routes",
        seam="backend",
        breaks="The last entry points, of those that the engine has, run all MoE layers as dense ones.",
        default=2.0,
        doses=(1.0,),
        unit="entry points",
    ),
    FaultSpec(
        name="guard-fires",
        seam="backend",
        breaks="In the first forwards of a request the lowest logit is not finite; greedy tokens stay.",
        default=ALL_TOKENS,
        doses=(1.0,),
        unit="forwards",
    ),
    FaultSpec(
        name="counters-stuck",
        seam="backend",
        breaks="The engine's counters leave out the last forwards of a request.",
        default=ALL_TOKENS,
        doses=(1.0,),
        unit="forwards",
    ),
    FaultSpec(
        name="routing-depends-on-cache",
        seam="backend",
        breaks="When decoding over the cache, the router takes the best expert it should not have chosen.",
        default=ALL_LAYERS,
        doses=(1.0,),
        unit="layers",
    ),
)

STREAM = (
    FaultSpec(
        name="stop-ignored",
        seam="stream",
        breaks="Tokens are computed after the caller stopped the generation.",
        default=4.0,
        doses=(1.0, 2.0),
        unit="tokens",
    ),
    FaultSpec(
        name="stream-buffered",
        seam="stream",
        breaks="Tokens are computed ahead before any is handed out.",
        default=8.0,
        doses=(1.0, 2.0, 4.0),
        unit="tokens",
    ),
)

TOKENIZER: tuple[FaultSpec, ...] = ()

MEMORY: tuple[FaultSpec, ...] = ()

CLOCK = (
    FaultSpec(
        name="slow-clock",
        seam="clock",
        breaks="The clock shows a decode rate of this fraction of the floor.",
        default=0.9,
        doses=(0.98, 0.95),
        unit="x floor",
    ),
)

SPECS = (*MODEL, *CACHE, *SAMPLER, *BACKEND, *STREAM, *TOKENIZER, *MEMORY, *CLOCK)
