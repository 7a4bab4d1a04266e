"""Faults on the way from logits to an answer: how tokens are drawn, handed out, made text, and timed."""

from refute.faults.base import ALL_SPECIALS, ALL_TOKENS, FaultSpec

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
