"""Pages of filler with facts hidden in them: what a long-context attack asks about.

Every fact is made up from a seed, so that no model can know it: a key of two words written as one, a value of
one word. The filler is ordinary sentences; a page has at least so many tokens of it, counted by the target.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

# Words that the embedded model's tokenizer holds whole, chosen because it recalls them best:
# of made-up syllables and of rarer words it recalled clearly fewer. So its recall is that of easy facts.
_WORDS = (
    "after", "before", "call", "case", "check", "code", "copy", "current", "data", "date", "default",
    "empty", "entry", "error", "example", "exit", "field", "file", "find", "first", "float", "follow",
    "form", "full", "group", "help", "host", "index", "input", "item", "join", "kind", "last", "left",
    "length", "level", "line", "list", "local", "lower", "main", "mark", "match", "mode", "module",
    "name", "need", "next", "number", "object", "offset", "open", "option", "order", "path", "place",
    "point", "port", "print", "process", "queue", "quote", "range", "read", "real", "result", "return",
    "right", "row", "run", "search", "second", "send", "short", "show", "sign", "simple", "single",
    "size", "skip", "sort", "source", "space", "split", "stack", "start", "state", "stop", "string",
    "support", "table", "target", "test", "text", "thread", "time", "token", "type", "user", "value",
    "version", "wait", "width", "word", "work", "write", "year", "zero",
)  # fmt: skip
_SUBJECTS = (
    "The old bridge",
    "A grey heron",
    "The ferry to the island",
    "The baker at the corner",
    "A letter from the north",
    "The clock in the hall",
    "Every other train",
    "The market by the river",
    "A narrow lane",
    "The lamp above the door",
    "The last tram",
    "The garden behind the school",
)
_VERBS = (
    "was painted again",
    "waits near the harbour",
    "is late in winter",
    "has been closed since spring",
    "smells of rain",
    "is older than the town",
    "belongs to nobody",
    "leads to the quarry",
    "opens before dawn",
    "turns left at the mill",
    "keeps its own pace",
    "was moved in autumn",
)


@dataclass(frozen=True, slots=True)
class Needle:
    """One fact, and where in the page it stands: depth 0 is the beginning, 1 the end."""

    key: str
    value: str
    depth: float

    @property
    def line(self) -> str:
        """The fact as the page tells it."""
        return f"The code of {self.key} is {self.value}."

    @property
    def question(self) -> str:
        """What asks for the value."""
        return f"What is {self.key}?"


def page(
    tokens: int, depths: Sequence[float], each: int, count: Callable[[str], int], seed: int
) -> tuple[str, list[Needle]]:
    """Write a page with at least `tokens` tokens of filler and `each` needles at every depth.

    count: how many tokens a text has. A needle at depth 0 therefore stands at least `tokens` tokens before
    the question. No word is in two needles of a page.
    """
    draw = Random(seed)  # noqa: S311
    filler: list[str] = []
    while count("\n".join(filler)) < tokens:
        missing = tokens - count("\n".join(filler))
        filler += [_sentence(draw) for _ in range(max(missing // 32, 1))]  # a sentence has fewer tokens
    words = draw.sample(_WORDS, 3 * each * len(depths))
    needles, lines = [], []
    for place in range(len(filler) + 1):
        for depth in depths:
            if round(depth * len(filler)) == place:
                for _ in range(each):
                    needles.append(Needle(words.pop() + words.pop(), words.pop(), depth))
                    lines.append(needles[-1].line)
        lines += filler[place : place + 1]
    return "\n".join(lines), needles


def most_needles() -> int:
    """How many a page can have."""
    return len(_WORDS) // 3


def _sentence(draw: Random) -> str:
    return f"{draw.choice(_SUBJECTS)} {draw.choice(_VERBS)}."
