"""Write token vectors of a GGUF file: texts and the ids that llama.cpp gives them.

`python tests/oracle/make_tokens.py MODEL.gguf` writes MODEL.tokens.json beside it, where `refute` looks for
it; it reads the vocabulary alone, so a large file takes seconds. See README.md beside this file.

Qwen's own tokenizer composes text first (Unicode NFC), llama.cpp does not. So it is given the composed text,
and the vector keeps the text as it was. And llama.cpp matches user-defined tokens, such as `<tool_call>`, in
plain text too: no text here spells one whole.
"""

import hashlib
import json
import random
import sys
import unicodedata
from pathlib import Path

import llama_cpp

COMPOSES = {"qwen2"}  # pre-tokenizers of models whose own tokenizer composes
RANDOM_TEXTS = 200
SPELT_TOKENS, TOKENS_A_TEXT = 2048, 34

WRITTEN = [
    "a", " ", "\n", "0", "é", "e\u0301", "\U0001f642", "\0", "\x7f", "\ufeff", "\ufffd", "\U0010fffd",
    "  ", "\r\n", "Hello, world!", "it's they'LL I'd WE'VE can't 'tis", "don\u2019t", "x=1;\n\n\ny",
    "tab\tand  two   three    four", "trailing   ", "   leading", "\n\n \n  \n", " \n", "\n ", "\t\t\tx",
    "\u00a0\u2003\u3000x", "\v\f\x1c\x85\u2028\u2029", "1234567890", "3.14159e-10", "1 22 333 4444",
    "\u0661\u0662\u0663", "\u00b2\u00bd\u2167", "\uff11\uff12", "def f(x):\n    return x**2  # done\n",
    "        for i in range(10):\n            pass\n",
    '{"name": "write", "arguments": {"path": "a.py", "n": [1, -2.5e3, null]}}',
    "https://example.org/a?b=c&d=%20#e", "<|im_start|>user\nhi<|im_end|>\n", "<|endoftext|>", "<|im_end|",
    "<tool_call", "tool_call>", "</tool_", "<|x|>", "Zo\u00eb et Fran\u00e7ois",
    "Zoe\u0308 et Franc\u0327ois", "\u212b \u2126 \u212a", "a\u0323\u0307 a\u0307\u0323", "\u1e9b\u0323",
    "\ufb01 \u2460 \u33a5", "\u1112\u1161\u11ab\u1100\u1173\u11af", "\ud55c\uae00",
    "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0ba8\u0bbf \u0e01\u0e33 \u0f40\u0f72",
    "\u0646\u0645\u0648\u0646\u0647 \u05e9\u05c1", "\u202b\u05e9\u05dc\u05d5\u05dd abc 123 \u202c",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", "\u043f\u0440\u0438\u0432\u0435\u0442",
    "\U00020000\U0002a6d6", "\U0001d400\U0001d7ce",
    "z\u0310\u0302\u0324\u0353a\u0300\u0301\u0302\u0303lgo",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\U0001f3f4\U000e0067\U000e0062\U000e007f", "\U0001f44d\U0001f3fd \u2764\ufe0f 1\ufe0f\u20e3",
    "\U0001f1e9\U0001f1ea\U0001f1eb", "a\u200bb\u200cc\u200dd\u2060", "\ue000\U000f0000\U00100000",
    "!?!?...---___===", "((([[[{{{", "\u00ab\u2026\u00bb \u2014 \u2013", "\u20ac100 \u00a35 \u2030",
]  # fmt: skip

RANGES = (
    (0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF),
    (0x5D0, 0x5EA), (0x620, 0x64A), (0x900, 0x939), (0xE01, 0xE30), (0x1100, 0x1112), (0x1161, 0x1175),
    (0x2000, 0x206F), (0x20A0, 0x20AF), (0x2190, 0x21FF), (0x3041, 0x3096), (0x4E00, 0x4FFF),
    (0xAC00, 0xAD00), (0xE000, 0xE0FF), (0x10330, 0x1034A), (0x1D400, 0x1D454), (0x1F600, 0x1F64F),
    (0x20000, 0x200FF), (0xF0000, 0xF00FF), (0x100000, 0x1000FF), (0x00, 0x1F),
)  # fmt: skip


def texts(tokens: list[str], seed: int = 1) -> list[str]:
    """Texts for the pre-tokenizer's rules, for characters of every length and for the merges, shortest first.

    tokens: of the vocabulary. A line for each (a sample, where there are many) needs most of the merges.
    """
    draw = random.Random(seed)
    lines = draw.sample(tokens, min(len(tokens), SPELT_TOKENS))
    made = [
        char * count for char in (" ", "\n", "\t", "7", "a", "-", "\U0001f642") for count in (3, 9, 33, 70)
    ]
    for _ in range(RANDOM_TEXTS):
        parts = []
        for _ in range(draw.randint(1, 5)):
            first, last = draw.choice(RANGES)
            parts.append("".join(chr(draw.randint(first, last)) for _ in range(draw.randint(1, 5))))
            parts.append(draw.choice(["", "", " ", "  ", "\n", "\r\n", "12", "'s", "word", " the"]))
        made.append("".join(parts))
    made += ["\n".join(lines[i : i + TOKENS_A_TEXT]) for i in range(0, len(lines), TOKENS_A_TEXT)]
    return sorted({*WRITTEN, *made}, key=lambda text: (len(text), text))


def spelt(model: llama_cpp.Llama, token: int) -> str | None:
    """Return the text of a token; None for a part of a character."""
    try:
        return str(model.detokenize([token], special=True).decode())
    except UnicodeDecodeError:
        return None


def main() -> None:
    """Write the vectors of the file that the command line names."""
    path = Path(sys.argv[1])
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    vocabulary = llama_cpp.llama_model_get_vocab(model.model)
    kinds = [llama_cpp.llama_vocab_get_attr(vocabulary, token) for token in range(model.n_vocab())]
    whole = [
        llama_cpp.llama_vocab_get_text(vocabulary, token).decode()
        for token, kind in enumerate(kinds)
        if kind & llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
    ]
    composes = model.metadata["tokenizer.ggml.pre"] in COMPOSES
    ordinary = [
        text
        for token, kind in enumerate(kinds)
        if kind == llama_cpp.LLAMA_TOKEN_ATTR_NORMAL and (text := spelt(model, token)) is not None
    ]
    vectors = []
    for text in texts(ordinary):
        assert not any(special in text for special in whole), text
        given = unicodedata.normalize("NFC", text) if composes else text
        ids = model.tokenize(given.encode(), add_bos=False, special=False)
        vectors.append({"text": text, "ids": ids})
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    head = {
        "model_sha256": digest,
        "engine": "llama.cpp",
        "version": f"llama-cpp-python {llama_cpp.__version__}",
        "nfc": composes,
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    rows = ",\n ".join(json.dumps(vector, separators=(",", ":")) for vector in vectors)
    output = path.with_suffix(".tokens.json")
    output.write_text("{\n" + ",\n".join([*lines, f'"vectors": [\n {rows}\n]']) + "\n}\n", encoding="ascii")
    print(f"{output}: {len(vectors)} texts, {output.stat().st_size} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
