"""Every fault that a falsifier can be made to catch, as data, by the seam that it goes in.

Importing this module imports nothing heavy: the wrappers that plant them are in the modules named after the
seams. Faults of the cache, and `routing-depends-on-cache`, touch only the arm that uses the cache, so that
the slow twin stays honest.
"""

from refute.faults.base import FaultSpec

ALL_LAYERS = 1000.0
"""A dose that counts layers is clipped to those that the model has."""
ALL_TENSORS = 10_000.0
"""So is one that counts tensors."""
ALL_TOKENS = 1000.0
"""And one that counts tokens of the prompt, or forwards of a request."""

MODEL = (
    FaultSpec(
        name="rope-base",
        seam="model",
        breaks="The base of the RoPE frequencies is multiplied.",
        default=10.0,
        doses=(1.01, 1.1, 2.0),
        unit="x",
    ),
    FaultSpec(
        name="qk-norm-ones",
        seam="model",
        breaks="The weights of the query and key norms of the last layers are 1.",
        default=ALL_LAYERS,
        doses=(1.0,),
        unit="layers",
    ),
    FaultSpec(
        name="kv-weights-permuted",
        seam="model",
        breaks="The key and value weights of the last layers are under the next kv head.",
        default=ALL_LAYERS,
        doses=(1.0,),
        unit="layers",
    ),
    FaultSpec(
        name="router-scaled",
        seam="model",
        breaks="The router's weights are multiplied: the same experts, other shares.",
        default=2.0,
        doses=(1.01, 1.1),
        unit="x",
    ),
    FaultSpec(
        name="experts-swapped",
        seam="model",
        breaks="Experts 0 and 1 of the last layers have each other's weights, not their router rows.",
        default=ALL_LAYERS,
        doses=(1.0,),
        unit="layers",
    ),
    FaultSpec(
        name="expert-zeroed",
        seam="model",
        breaks="Expert 0 of the last layers answers zero.",
        default=ALL_LAYERS,
        doses=(1.0,),
        unit="layers",
    ),
    FaultSpec(
        name="type-misread",
        seam="model",
        breaks="The last tensors of type Q6_K are read as Q4_K.",
        default=ALL_TENSORS,
        doses=(1.0,),
        unit="tensors",
    ),
    FaultSpec(
        name="tensor-scaled",
        seam="model",
        breaks="The weights of the last norm, and so all logits, are multiplied.",
        default=1.01,
        doses=(1.0001, 1.001),
        unit="x",
    ),
    FaultSpec(
        name="merge-dropped",
        seam="model",
        breaks="The last merges of the tokenizer are missing.",
        default=100.0,
        doses=(1.0, 10.0),
        unit="merges",
    ),
)

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
    FaultSpec(
        name="weights-not-renormalised",
        seam="backend",
        breaks="The weights of the chosen experts sum to less than 1: they are shares of all.",
        default=ALL_LAYERS,
        doses=(1.0,),
        unit="layers",
    ),
    FaultSpec(
        name="router-top-k-off",
        seam="backend",
        breaks="The router passes over the best expert and takes those after it.",
        default=ALL_LAYERS,
        doses=(1.0,),
        unit="layers",
    ),
    FaultSpec(
        name="router-collapsed",
        seam="backend",
        breaks="A share of the tokens is sent to the first experts, whatever the router says.",
        default=0.9,
        doses=(0.1, 0.25, 0.5),
        unit="of tokens",
    ),
    FaultSpec(
        name="logits-perturbed",
        seam="backend",
        breaks="Every logit is off by up to the dose, always in the same way.",
        default=0.1,
        doses=(0.0001, 0.001, 0.01),
        unit="logit",
    ),
    FaultSpec(
        name="logits-not-finite",
        seam="backend",
        breaks="At a share of the positions the lowest logit is not a number.",
        default=0.5,
        doses=(0.1,),
        unit="of positions",
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

ALL_SPECIALS = 1000.0
"""A dose that counts special tokens is clipped to those that the tokenizer has."""

TOKENIZER = (
    FaultSpec(
        name="special-forged",
        seam="tokenizer",
        breaks="Plain text that spells one of the first special tokens becomes that token.",
        default=ALL_SPECIALS,
        doses=(1.0, 2.0),
        unit="special tokens",
    ),
    FaultSpec(
        name="byte-lost",
        seam="tokenizer",
        breaks="The rarest lead bytes of characters decode to nothing.",
        default=5.0,
        doses=(1.0, 3.0),
        unit="byte values",
    ),
    FaultSpec(
        name="space-collapsed",
        seam="tokenizer",
        breaks="Runs of more spaces than this are read as so many spaces.",
        default=4.0,
        doses=(64.0, 16.0),
        unit="spaces kept",
    ),
    FaultSpec(
        name="nfc-skipped",
        seam="tokenizer",
        breaks="Some texts are not normalized, though the tokenizer says so.",
        default=1.0,
        doses=(0.1, 0.25),
        unit="share of texts",
    ),
    FaultSpec(
        name="utf8-cut",
        seam="tokenizer",
        breaks="A stream gives half characters out as U+FFFD instead of waiting for the rest.",
        default=1.0,
        doses=(0.05, 0.25),
        unit="share of tokens",
    ),
    FaultSpec(
        name="tail-lost",
        seam="tokenizer",
        breaks="A half character of up to this many bytes at a stream's end is dropped without a sign.",
        default=3.0,
        doses=(1.0, 2.0),
        unit="bytes",
    ),
    FaultSpec(
        name="text-late",
        seam="tokenizer",
        breaks="A stream gives text out later than with the token that completes it.",
        default=4.0,
        doses=(1.0, 2.0),
        unit="tokens",
    ),
)

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
