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
        doses=(0.25, 0.5),
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
        doses=(0.25, 0.5),
        unit="rows a chunk",
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
        breaks="The first rows of the prompt are gone when decoding begins.",
        default=1.0,
        doses=(0.1, 0.5),
        unit="of the prompt",
    ),
    FaultSpec(
        name="phantom-row",
        seam="cache",
        breaks="An empty cache answers with a row of zeros before the first token.",
        default=ALL_LAYERS,
        doses=(1.0, 2.0),
        unit="layers",
    ),
    FaultSpec(
        name="cache-ignored",
        seam="cache",
        breaks="Decoding computes the whole prefix again for every token; the tokens stay right.",
        default=1.0,
        doses=(0.25, 0.5),
        unit="of the requests",
    ),
    FaultSpec(
        name="fork-shared",
        seam="cache",
        breaks="A forked sequence stores its rows where its origin stores its own.",
        default=ALL_LAYERS,
        doses=(1.0,),
        unit="layers",
    ),
    FaultSpec(
        name="trim-short",
        seam="cache",
        breaks="A trimmed sequence still reads the first rows that it should have forgotten.",
        default=4.0,
        doses=(1.0, 2.0),
        unit="rows",
    ),
    FaultSpec(
        name="crosstalk",
        seam="cache",
        breaks="A sequence reads rows of another one that ran in between.",
        default=4.0,
        doses=(1.0, 2.0),
        unit="rows",
    ),
    FaultSpec(
        name="order-dependent",
        seam="cache",
        breaks="A new sequence reads rows that the sequence before it left behind.",
        default=4.0,
        doses=(1.0, 2.0),
        unit="rows",
    ),
    FaultSpec(
        name="chunk-dependent",
        seam="cache",
        breaks="The first token of every later chunk gets a RoPE position that is off.",
        default=1.0,
        doses=(0.25, 0.5),
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
    FaultSpec(
        name="thread-race",
        seam="backend",
        breaks="On more than one thread the logits are off.",
        default=0.1,
        doses=(0.0005, 0.002, 0.01),
        unit="logit",
    ),
)

STREAM: tuple[FaultSpec, ...] = ()

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
