"""Every fault that a falsifier can be made to catch, as data, by the seam that it goes in.

Importing this module imports nothing heavy: the wrappers that plant them are in the modules named after the
seams. Faults of the cache, and `routing-depends-on-cache`, touch only the arm that uses the cache, so that
the slow twin stays honest.
"""

from refute.faults.base import FaultSpec

ALL_LAYERS = 1000.0
"""A dose that counts layers is clipped to those that the model has."""

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
    FaultSpec(
        name="attention-window",
        seam="cache",
        breaks="Of the rows of earlier forwards only the last ones are read; fewer is worse.",
        default=64.0,
        doses=(512.0, 256.0),
        unit="rows",
    ),
    FaultSpec(
        name="oldest-rows-lost",
        seam="cache",
        breaks="The first rows of a sequence are not read once more than 128 are stored.",
        default=128.0,
        doses=(4.0, 32.0),
        unit="rows",
    ),
    FaultSpec(
        name="middle-rows-lost",
        seam="cache",
        breaks="A share of the stored rows, in the middle, is not read by later forwards.",
        default=0.5,
        doses=(0.125,),
        unit="of the rows",
    ),
    FaultSpec(
        name="rope-drift",
        seam="cache",
        breaks="Positions grow too fast by this share, so that far ones are far off.",
        default=0.1,
        doses=(0.001,),
        unit="per position",
    ),
    FaultSpec(
        name="context-unchecked",
        seam="cache",
        breaks="A request that needs up to so many positions too many is cut to fit and run, without a word.",
        default=1024.0,
        doses=(1.0,),
        unit="positions",
    ),
)

SAMPLER = (
    FaultSpec(
        name="seed-ignored",
        seam="sampler",
        breaks="Every request draws from fresh entropy, whatever its seed.",
        default=1.0,
        doses=(),
        unit="times",
    ),
    FaultSpec(
        name="seed-fixed",
        seam="sampler",
        breaks="Every request draws from one and the same seed, whatever it asks for.",
        default=1.0,
        doses=(),
        unit="times",
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
        breaks="The repetition penalty is applied more than once to a token.",
        default=1.0,
        doses=(),
        unit="extra times",
    ),
)

BACKEND = (
    FaultSpec(
        name="dense-dispatch",
        seam="backend",
        breaks="The first MoE layers run a dense feed-forward of one expert's weights.",
        default=1.0,
        doses=(),
        unit="layers",
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

STREAM: tuple[FaultSpec, ...] = ()

TOKENIZER: tuple[FaultSpec, ...] = ()

MEMORY = (
    FaultSpec(
        name="cache-leaked",
        seam="memory",
        breaks="The caches of this share of the generations are never given back.",
        default=1.0,
        doses=(0.25,),
        unit="of generations",
    ),
    FaultSpec(
        name="weights-twice",
        seam="memory",
        breaks="A second copy of this share of the weights is held.",
        default=1.0,
        doses=(0.25,),
        unit="of the weights",
    ),
    FaultSpec(
        name="kv-oversized",
        seam="memory",
        breaks="The cache takes this many times the memory that its rows need.",
        default=64.0,
        doses=(),
        unit="x",
    ),
)

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
