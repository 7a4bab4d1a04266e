"""The toy language model behind the simulated engine's server: pieces of text, drawn one by one.

Its scores are noise that follows from all that was said before, so any change of a prompt changes the answer.
Some of its characters take several tokens, and it repeats what it is asked to repeat.
"""

import codecs
import hashlib
import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from refute.targets.base import Sampling

_WORDS = b" the| a| of| and| is| to| in| light| river| stone| seven| green| paper| moon|ing|ed|ly".split(b"|")
_CHARACTERS = tuple(map(str.encode, "éßñ中文語🙂👍🌍"))
_LEADS = sorted({character[0] for character in _CHARACTERS})
VOCABULARY: tuple[bytes, ...] = (*(bytes([byte]) for byte in range(256)), b"", *_WORDS)
"""What each token says: single bytes, `END`, which says nothing, and words."""
END = 256
_BEGINNINGS = (*range(END, len(VOCABULARY)), *b" \n.,", *_LEADS)
_LIKING = dict.fromkeys(_LEADS, 1.3) | {END: -1.0}  # a quarter begin such a character, 1 in 100 ends
_IMPOSSIBLE = -1000.0  # the score that is told of tokens that cannot follow
_REPEATING = 1.0  # how far what is to be repeated lies above all else: about every second draw


@dataclass(frozen=True, slots=True)
class Settings(Sampling):
    """Sampling as OpenAI's API has it: at temperature 1 where nothing is said, and with further penalties.

    Those are of the answer alone, and come after the repetition penalty.
    """

    temperature: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is answered.

    text: what the answer is asked to be; "" leaves it to the model. sure: nothing else can be drawn.
    """

    tokens: tuple[int, ...]
    text: str = ""
    sure: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One token, and the scores of all that could follow: before penalties and temperature."""

    token: int
    scores: Mapping[int, float]

    def logprobs(self, top: int) -> list[tuple[bytes, float]]:
        """Log-softmax of the scores: of this token, then of the `top` likeliest in order."""
        highest = max(self.scores.values())
        whole = highest + math.log(math.fsum(math.exp(score - highest) for score in self.scores.values()))
        others = (token for token in range(len(VOCABULARY)) if token not in self.scores)
        likeliest = itertools.islice(itertools.chain(_ranked(self.scores), others), top)
        named = (self.token, *likeliest)
        return [(VOCABULARY[each], self.scores.get(each, _IMPOSSIBLE) - whole) for each in named]


def answer(prompt: Prompt, settings: Settings, draw: random.Random) -> Iterator[Step]:
    """Draw tokens until one is `END`, the last."""
    said: list[int] = []
    past = hashlib.blake2b(repr(prompt.tokens).encode(), digest_size=16)
    text = codecs.getincrementaldecoder("utf-8")("replace")
    while END not in said[-1:]:
        noise = random.Random(past.digest())  # noqa: S311
        scores = _scores(prompt, len(said), text.getstate()[0], noise)
        token = _drawn(_penalized(scores, prompt, said, settings), settings, draw)
        yield Step(token, scores)
        said.append(token)
        past.update(f",{token}".encode())
        text.decode(VOCABULARY[token])


def _scores(prompt: Prompt, place: int, begun: bytes, noise: random.Random) -> dict[int, float]:
    """Scores of what can stand at this place of the answer, where a character has begun with these bytes."""
    asked = prompt.text.encode()
    wanted = (*asked, END)[min(place, len(asked))] if asked else None
    if wanted is not None and (prompt.sure or (wanted == END and not begun)):
        possible = [wanted]
    elif begun:
        characters = (*_CHARACTERS, *map(str.encode, prompt.text))
        possible = sorted({each[len(begun)] for each in characters if each.startswith(begun)})
    else:
        possible = list(_BEGINNINGS)
        if place == 0 or wanted is not None:
            possible.remove(END)  # an answer says something, and what it is asked to
        if wanted is not None and wanted not in possible and not 0x80 <= wanted < 0xC0:
            possible.append(wanted)  # but for a byte that cannot begin a character
    scores = {
        token: _LIKING.get(token, 0.0) - math.log(-math.log(noise.random() or 0.5))  # a Gumbel distribution
        for token in possible
    }
    if wanted in scores:
        scores[wanted] = max(scores.values()) + _REPEATING
    return scores


def _penalized(
    scores: Mapping[int, float], prompt: Prompt, said: Sequence[int], settings: Settings
) -> dict[int, float]:
    """Return the scores after the penalties."""
    changed, times, factor = dict(scores), Counter(said), settings.repetition_penalty
    for token in changed.keys() & {*prompt.tokens, *said}:
        changed[token] = changed[token] / factor if changed[token] > 0 else changed[token] * factor
    for token in changed.keys() & times.keys():
        changed[token] -= settings.presence_penalty + settings.frequency_penalty * times[token]
    return changed


def _drawn(scores: Mapping[int, float], settings: Settings, draw: random.Random) -> int:
    ranked = _ranked(scores)
    if settings.temperature == 0:
        return ranked[0]
    highest = scores[ranked[0]]
    ranked = ranked[: settings.top_k or None]
    weights = [math.exp((scores[token] - highest) / settings.temperature) for token in ranked]
    *before, whole = itertools.accumulate(weights, initial=0.0)
    kept = [
        weight if above < settings.top_p * whole and weight >= settings.min_p else 0.0
        for weight, above in zip(weights, before, strict=True)
    ]
    return draw.choices(ranked, kept)[0]


def _ranked(scores: Mapping[int, float]) -> list[int]:
    """The tokens of these scores, the likeliest first."""
    return sorted(scores, key=scores.__getitem__, reverse=True)
