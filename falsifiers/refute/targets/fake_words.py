"""The toy language model behind the simulated engine's server: pieces of text, drawn one by one.

Its scores are noise of what came before, so any change of a prompt changes the answer. It only ever says
whole characters, though some of them take several tokens, and it repeats what it is asked to repeat.
Letters: V vocabulary.
"""

import codecs
import hashlib
import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_WORDS = (
    b" the| a| of| and| is| to| in| light| river| stone| seven| green| paper| moon| quiet|ing|ed|ly".split(
        b"|"
    )
)
_CHARACTERS = tuple(map(str.encode, "éßñ中文語🙂👍🌍"))
_LEADS = sorted({character[0] for character in _CHARACTERS})
VOCABULARY: tuple[bytes, ...] = (*(bytes([byte]) for byte in range(256)), *_WORDS, b"")
"""What each token says: single bytes first, then words; the last one ends the answer and says nothing."""
END = len(VOCABULARY) - 1
_BEGINNINGS = (*range(256, END), *b" \n.,", *_LEADS, END)
_LIKED = dict.fromkeys(_LEADS, 1.3) | {END: -1.0}  # a quarter are beginnings of characters, 1 in 100 an end
_UNTHINKABLE = -60.0  # the score of what would break a character
_REPEATING = 1.0  # how far what is to be repeated lies above all else: every second draw
_SURE = 60.0  # the same, of what no temperature may change


@dataclass(frozen=True, slots=True)
class Settings:
    """How tokens are drawn. temperature 0 is greedy; seed None: anew each time.

    Order: repetition penalty (of prompt and answer), presence and frequency penalty (of the answer),
    temperature, top-k, top-p, min-p.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is answered. said: what the answer shall be; sure: at any temperature, not only at 0."""

    tokens: tuple[int, ...]
    said: tuple[int, ...] = ()
    sure: bool = False

    @property
    def characters(self) -> tuple[bytes, ...]:
        """All that can be said and takes several tokens."""
        return (*_CHARACTERS, *map(str.encode, decode(self.said)))


@dataclass(frozen=True, slots=True)
class Step:
    """One token, and the scores (V,) that it was drawn from, before penalties and temperature."""

    token: int
    scores: tuple[float, ...]

    @property
    def ends(self) -> bool:
        return self.token == END

    def logprobs(self, top: int) -> tuple[tuple[bytes, float], list[tuple[bytes, float]]]:
        """Log-softmax: of the token, and of the `top` likeliest, sorted."""
        highest = max(self.scores)
        whole = highest + math.log(math.fsum(math.exp(score - highest) for score in self.scores))
        likeliest = sorted(range(len(self.scores)), key=lambda each: -self.scores[each])[:top]
        chosen, *others = [(VOCABULARY[each], self.scores[each] - whole) for each in (self.token, *likeliest)]
        return chosen, others


def encode(text: str) -> tuple[int, ...]:
    """The longest word that fits, else one byte. Lone surrogates become question marks."""
    raw, tokens, place = text.encode("utf-8", "replace"), [], 0
    while place < len(raw):
        fits = [each for each in range(256, END) if raw.startswith(VOCABULARY[each], place)]
        tokens.append(max(fits, key=lambda each: len(VOCABULARY[each]), default=raw[place]))
        place += len(VOCABULARY[tokens[-1]])
    return tuple(tokens)


def decode(tokens: Sequence[int]) -> str:
    return b"".join(VOCABULARY[token] for token in tokens).decode("utf-8", "replace")


def prompt_of(text: str, asked: str) -> Prompt:
    """Tokens of all `text`; `asked`, its last question, may be `Repeat: ...`."""
    order, _, quoted = asked.partition(":")
    return Prompt(encode(text), said=encode(quoted.strip()) if "repeat" in order.lower() else ())


def answer(prompt: Prompt, settings: Settings, draw: random.Random) -> Iterator[Step]:
    """Draw tokens until one ends the answer; it is the last."""
    asked = hashlib.blake2b(repr(prompt.tokens).encode(), digest_size=16)
    said: list[int] = []
    while END not in said[-1:]:
        noise = asked.copy()
        noise.update(repr(said).encode())
        scores = _scores(prompt, said, random.Random(noise.digest()))  # noqa: S311
        said.append(_drawn(_penalized(scores, prompt, said, settings), settings, draw))
        yield Step(said[-1], tuple(scores))


def _scores(prompt: Prompt, said: Sequence[int], noise: random.Random) -> list[float]:
    """Scores (V,): noise for all that can follow; what is to be said lies above all others."""
    scores = [_UNTHINKABLE] * len(VOCABULARY)
    wanted = (*prompt.said, END)[min(len(said), len(prompt.said))] if prompt.said else None
    possible = _possible(said, prompt, wanted)
    for token in possible:
        scores[token] = _LIKED.get(token, 0.0) - math.log(-math.log(noise.random() or 0.5))
    if not said or wanted not in {None, END}:
        scores[END] = _UNTHINKABLE
    if wanted is not None and wanted in possible:
        sure = prompt.sure or wanted == END
        scores[wanted] = max(scores) + (_SURE if sure else _REPEATING)
    return scores


def _possible(said: Sequence[int], prompt: Prompt, wanted: int | None) -> list[int]:
    """Return what can follow: within a character, a next byte of one that is known."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(b"".join(VOCABULARY[token] for token in said))
    begun = decoder.getstate()[0]
    if begun:
        return sorted({each[len(begun)] for each in prompt.characters if each.startswith(begun)})
    more = wanted is not None and wanted not in _BEGINNINGS and not 0x80 <= wanted < 0xC0
    return [*_BEGINNINGS, wanted] if wanted is not None and more else [*_BEGINNINGS]


def _penalized(
    scores: Sequence[float], prompt: Prompt, said: Sequence[int], settings: Settings
) -> list[float]:
    """Scores (V,) after the penalties."""
    changed, times = list(scores), Counter(said)
    for token in {*prompt.tokens, *times} if settings.repetition_penalty != 1 else ():
        factor = settings.repetition_penalty
        changed[token] = changed[token] / factor if changed[token] > 0 else changed[token] * factor
    for token, count in times.items():
        changed[token] -= settings.presence_penalty + settings.frequency_penalty * count
    return changed


def _drawn(scores: Sequence[float], settings: Settings, draw: random.Random) -> int:
    ranked = sorted(range(len(scores)), key=lambda token: -scores[token])
    if settings.temperature == 0:
        return ranked[0]
    ranked = ranked[: settings.top_k or None]
    highest = scores[ranked[0]]
    weights = [math.exp((scores[token] - highest) / settings.temperature) for token in ranked]
    before = [0.0, *itertools.accumulate(weights)]
    kept = [
        place
        for place, weight in enumerate(weights)
        if before[place] < settings.top_p * before[-1] and weight >= settings.min_p
    ]
    return draw.choices([ranked[place] for place in kept], [weights[place] for place in kept])[0]
