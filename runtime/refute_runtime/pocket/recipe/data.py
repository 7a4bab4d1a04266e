"""Training and test documents: small tasks as ChatML conversations, made afresh from (seed, step).

Half of all words are made up from random tokenizer pieces, so that copying cannot be learnt as a closed list.
Made-up words and addition problems are split by a hash of their text: the test side never occurs in training.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random

import torch
from corpus import Corpus
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import Dataset

Message = dict[str, object]

TEXT_WEIGHT = 0.3  # loss weight of plain text; answers weigh 1, everything else 0
_END = "<|endoftext|>"
_ANSWER = "<|im_start|>assistant\n"
_SMALL = ("recall", "copy", "add")


def for_test(text: str, one_in: int = 8) -> bool:
    """Say whether the hash of `text` puts it on the test side."""
    return hashlib.sha256(text.encode()).digest()[0] * one_in < 256


# --- words ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lexicon:
    """What words are made of."""

    known: tuple[str, ...]  # words of the corpus
    single: tuple[str, ...]  # words that are one token
    pieces: tuple[str, ...]  # parts of made-up words
    known_set: frozenset[str]


def build_lexicon(corpus: Corpus, tokenizer: Tokenizer) -> Lexicon:
    """Collect the words of a corpus and the letter tokens of a tokenizer."""
    counts: Counter[str] = Counter()
    for text in (*corpus.sources, *corpus.topics):
        counts.update(re.findall(r"(?<![A-Za-z_])[a-z]{3,10}(?![A-Za-z_])", text))
    known = tuple(sorted(word for word, count in counts.items() if count >= 5))
    letters = [token for token in tokenizer.get_vocab() if re.fullmatch(r"[a-z]{2,}", token)]
    single = tuple(sorted(token for token in letters if len(token) >= 3))
    return Lexicon(known, single, tuple(sorted(letters)), frozenset(known))


@dataclass(slots=True)
class Words:
    """Draws words without repetition inside one document row."""

    lexicon: Lexicon
    random: Random
    kind: str = "mixed"  # mixed (training), known, single, made, unseen (the test side of the made-up words)
    used: set[str] = field(default_factory=set)

    def draw(self, kind: str | None = None) -> str:
        """Return a word that this row has not used."""
        kind = kind or self.kind
        for _ in range(50):
            word = self._candidate(kind)
            if word not in self.used:
                self.used.add(word)
                return word
        return self.draw("made")

    def number(self, digits: int) -> str:
        """Return an unused number of that many digits, of more where those are used up."""
        while True:
            for _ in range(20):
                text = str(self.random.randrange(10 ** (digits - 1), 10**digits))
                if text not in self.used:
                    self.used.add(text)
                    return text
            digits += 1

    def value(self) -> str:
        """Return a value for a key: a word, in training sometimes a number."""
        if self.kind == "mixed" and self.random.random() < 0.1:
            return self.number(self.random.randint(3, 5))
        return self.draw()

    def _candidate(self, kind: str) -> str:
        if kind == "mixed":
            kind = self.random.choices(("made", "known", "single"), (0.5, 0.2, 0.3))[0]
        if kind == "known":
            return self.random.choice(self.lexicon.known)
        if kind == "single":
            return self.random.choice(self.lexicon.single)
        while True:
            word = "".join(self.random.choices(self.lexicon.pieces, k=self.random.choice((2, 2, 3))))
            if word not in self.lexicon.known_set and for_test(word) == (kind == "unseen"):
                return word


# --- conversations -------------------------------------------------------------------------------------------


def function(name: str, description: str, *parameters: str) -> Message:
    """Return a tool in OpenAI's form; all parameters are required strings."""
    properties = {key: {"type": "string"} for key in parameters}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def tool_set() -> dict[str, Message]:
    """Return the tools that the model was trained with."""
    return {
        "Write": function("Write", "Write a file.", "file_path", "content"),
        "Read": function("Read", "Read a file.", "file_path"),
        "Bash": function("Bash", "Run a command.", "command"),
    }


def render(messages: list[Message], tools: list[Message] | None = None) -> str:
    """Render as chat_template.jinja does (evaluate.py checks that both agree)."""
    out = []
    if tools:
        out.append(f"<|im_start|>system\n{_list_tools(tools)}<|im_end|>\n")
    previous = None
    for position, message in enumerate(messages):
        role, content = message["role"], message.get("content") or ""
        if role == "tool":
            following = messages[position + 1]["role"] if position + 1 < len(messages) else None
            out.append("<|im_start|>user\n" if previous != "tool" else "")
            out.append(f"<tool_response>\n{content}\n</tool_response>\n")
            out.append("<|im_end|>\n" if following != "tool" else "")
        else:
            calls = "\n".join(_call(call["function"]) for call in message.get("tool_calls", ()))
            out.append(f"<|im_start|>{role}\n{content}{calls}<|im_end|>\n")
        previous = role
    return "".join(out)


def _list_tools(tools: list[Message]) -> str:
    lines = ["# Tools\n\nYou can call these functions:\n\n<tools>"]
    for tool in tools:
        body = tool["function"]
        schema = body["parameters"]
        lines.append(
            f"<function>\n<name>{body['name']}</name>\n<description>{body['description']}</description>"
        )
        lines.append("<parameters>")
        for name, detail in schema["properties"].items():
            facts = "".join(f"\n<{key}>{value}</{key}>" for key, value in detail.items())
            lines.append(f"<parameter>\n<name>{name}</name>{facts}\n</parameter>")
        lines.append(f"<required>{json.dumps(schema['required'])}</required>\n</parameters>\n</function>")
    lines.append(
        "</tools>\n\nTo call one, write:\n<tool_call>\n<function=NAME>\n<parameter=ARG>\nVALUE\n</parameter>"
    )
    lines.append("</function>\n</tool_call>")
    return "\n".join(lines)


def _call(body: Mapping[str, object]) -> str:
    arguments = "".join(f"<parameter={k}>\n{v}\n</parameter>\n" for k, v in body["arguments"].items())
    return f"<tool_call>\n<function={body['name']}>\n{arguments}</function>\n</tool_call>"


def user(text: str) -> Message:
    """Return a user turn."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """Return an assistant turn."""
    return {"role": "assistant", "content": text}


def calling(name: str, **arguments: str) -> Message:
    """Return an assistant turn that calls a tool."""
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


# --- tasks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sizes:
    """How hard the documents of a stage are."""

    pairs: int  # most key-value pairs of a recall document
    questions: int  # most questions about them
    items: int  # most items to copy
    filler: int  # most lines of filler around needles
    tools: int  # most tools on offer


_STATEMENTS = ("{k}={v}", "{k}: {v}", "{k} is {v}", "{k} -> {v}", "The code of {k} is {v}.")
_QUESTIONS = ("What is {k}?", "{k}?", "Look up {k}.", "Give me {k}.")


@dataclass(slots=True)
class Tasks:
    """Makes documents; every method returns rendered text."""

    words: Words
    sizes: Sizes
    corpus: Corpus
    tests: bool = False  # take the test side of the addition problems

    @property
    def random(self) -> Random:
        """Return the generator that the words use too."""
        return self.words.random

    def recall(self, pairs: int | None = None, questions: int | None = None) -> str:
        """Key-value lines, then questions."""
        random = self.random
        pairs = pairs or random.randint(1, self.sizes.pairs)
        statement = random.choice(_STATEMENTS)
        facts = [(self.words.draw(), self.words.value()) for _ in range(pairs)]
        lines = [statement.format(k=k, v=v) for k, v in facts]
        random.shuffle(lines)
        header = random.choice(("Remember:\n", "Notes:\n", "Known:\n", ""))
        return render(self._ask(header + "\n".join(lines), facts, questions))

    def needle(
        self, lines: int | None = None, needles: int | None = None, questions: int | None = None
    ) -> str:
        """Facts hidden between filler lines, then questions."""
        random = self.random
        lines = lines or random.randint(2, self.sizes.filler)
        needles = needles or random.randint(1, max(1, min(6, lines // 3)))
        facts = [(self.words.draw(), self.words.value()) for _ in range(needles)]
        statement = random.choice(_STATEMENTS)
        page = [statement.format(k=k, v=v) for k, v in facts]
        filler = random.choice((self._word_line, self._source_line, self._topic_line))
        page += [filler() for _ in range(lines)]
        random.shuffle(page)
        return render(self._ask("\n".join(page), facts, questions))

    def copy(self, items: int | None = None) -> str:
        """Repeat words, numbers or a line of text."""
        random = self.random
        order = random.choice(("Repeat: ", "Copy: ", "Repeat this:\n", "Say again:\n"))
        if random.random() < 0.2 and not self.tests:
            text = random.choice((self._source_line, self._topic_line))().strip()
            return render([user(order + text), assistant(text)])
        items = items or random.randint(1, self.sizes.items)
        numbers = random.random() < 0.15 and not self.tests
        parts = [
            self.words.number(random.randint(1, 5)) if numbers else self.words.draw() for _ in range(items)
        ]
        text = random.choice((" ", " ", ", ", "\n")).join(parts)
        return render([user(order + text), assistant(text)])

    def sort(self) -> str:
        """Sort a few words or numbers."""
        random = self.random
        count = random.randint(2, 5)
        if random.random() < 0.5:
            parts = [str(number) for number in random.sample(range(10, 100), count)]
        else:
            parts = [self.words.draw("known") for _ in range(count)]
        return render([user("Sort: " + " ".join(parts)), assistant(" ".join(sorted(parts)))])

    def add(self, turns: int | None = None) -> str:
        """Sums below 200; the test problems are split off by their unordered operands."""
        random = self.random
        messages = []
        for _ in range(turns or random.randint(1, 4)):
            while True:
                a, b = random.randrange(100), random.randrange(100)
                if for_test(f"{min(a, b)}+{max(a, b)}") == self.tests:
                    break
            form = random.choice(("{a}+{b}=", "What is {a}+{b}?", "Add {a} and {b}."))
            messages += [user(form.format(a=a, b=b)), assistant(str(a + b))]
        return render(messages)

    def tool(self, turns: int | None = None, name: str | None = None) -> str:
        """Tool calls, their results and what to say then."""
        random = self.random
        tools = tool_set()
        offered = random.sample(sorted(tools), random.randint(1, self.sizes.tools))
        if name and name not in offered:
            offered[0] = name
        messages: list[Message] = []
        for _ in range(turns or random.randint(1, 3)):
            chosen = name or random.choice(offered)
            path = self._path()
            if chosen == "Write":
                content = self._content()
                form = random.choice(
                    ("Write {c} to {p}", "Write {c} into {p}.", "Create {p} with:\n{c}", "Save to {p}: {c}")
                )
                messages += [
                    user(form.format(c=content, p=path)),
                    calling("Write", file_path=path, content=content),
                ]
                messages += [
                    {"role": "tool", "content": random.choice(("ok", "written"))},
                    assistant("Done."),
                ]
            elif chosen == "Read":
                content = self._content()
                form = random.choice(("Read {p}", "Show me {p}.", "What is in {p}?"))
                messages += [user(form.format(p=path)), calling("Read", file_path=path)]
                messages += [{"role": "tool", "content": content}, assistant(content)]
            else:
                command = f"{random.choice(('ls', 'cat', 'rm', 'python'))} {path}"
                content = self._content()
                messages += [user(random.choice(("Run {c}", "Run: {c}")).format(c=command))]
                messages += [
                    calling("Bash", command=command),
                    {"role": "tool", "content": content},
                    assistant(content),
                ]
        return render(messages, [tools[key] for key in offered])

    def hello(self) -> str:
        """Small talk."""
        order = self.random.choice(("Hello", "Hi", "Hello!", "Who are you?"))
        reply = "I am a small test model." if order.startswith("Who") else "Hello! How can I help?"
        return render([user(order), assistant(reply)])

    def text(self) -> str:
        """A few lines of source or documentation."""
        document = self.random.choice(
            self.corpus.sources if self.random.random() < 0.6 else self.corpus.topics
        )
        start = document.find("\n", self.random.randrange(len(document))) + 1
        return document[start : start + self.random.randint(200, 700)]

    def _ask(self, page: str, facts: list[tuple[str, str]], questions: int | None) -> list[Message]:
        """Ask for distinct keys, once each, one turn per question."""
        random = self.random
        count = questions or random.randint(1, self.sizes.questions)
        asked = random.sample(facts, min(count, len(facts)))
        form = random.choice(_QUESTIONS)
        first, *rest = [form.format(k=k) for k, _ in asked]
        where = random.random()
        if where < 0.6:
            messages = [user(f"{page}\n{first}")]
        elif where < 0.8:
            messages = [{"role": "system", "content": page}, user(first)]
        else:
            messages = [user(page), assistant("OK."), user(first)]
        for question, (_, value) in zip([*rest, None], asked, strict=True):
            messages.append(assistant(value))
            if question is not None:
                messages.append(user(question))
        return messages

    def filler_line(self) -> str:
        """A line of words, source or documentation."""
        return self.random.choice((self._word_line, self._source_line, self._topic_line))()

    def _path(self) -> str:
        folder = self.random.choice(("/tmp/", "", "notes/", "src/", f"{self.words.draw()}/"))
        return folder + self.words.draw() + self.random.choice((".txt", ".py", ".md", ""))

    def _content(self) -> str:
        if self.random.random() < 0.15 and not self.tests:
            return self.words.number(self.random.randint(2, 5))
        return self.random.choice((" ", " ", "=", "_")).join(
            self.words.draw() for _ in range(self.random.randint(1, 5))
        )

    def _word_line(self) -> str:
        return " ".join(self.words.draw("mixed") for _ in range(self.random.randint(3, 8))) + "."

    def _line(self, documents: tuple[str, ...]) -> str:
        document = self.random.choice(documents)
        start = self.random.randrange(len(document))
        lines = [line for line in document[start : start + 400].split("\n")[1:] if 15 < len(line) < 90]
        return lines[0] if lines else self._word_line()

    def _source_line(self) -> str:
        return self._line(self.corpus.sources)

    def _topic_line(self) -> str:
        return self._line(self.corpus.topics)


# --- batches -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of steps with one length and one mix."""

    steps: int
    length: int
    rows: int
    sizes: Sizes
    mix: Mapping[str, float]


def stages(scale: float = 1.0) -> tuple[Stage, ...]:
    """Return the curriculum; `scale` stretches the number of steps."""
    easy = {"recall": 34, "copy": 34, "needle": 6, "tool": 10, "add": 8, "sort": 3, "text": 5}
    full = {"recall": 23, "copy": 22, "needle": 14, "tool": 18, "add": 9, "sort": 5, "hello": 1, "text": 7}
    long = {"recall": 12, "copy": 12, "needle": 45, "tool": 14, "add": 6, "sort": 3, "hello": 1, "text": 7}
    return (
        Stage(round(700 * scale), 256, 16, Sizes(pairs=5, questions=4, items=6, filler=6, tools=1), easy),
        Stage(round(300 * scale), 512, 16, Sizes(pairs=16, questions=6, items=16, filler=24, tools=3), full),
        Stage(round(150 * scale), 1152, 8, Sizes(pairs=24, questions=8, items=20, filler=64, tools=3), long),
    )


def answer_mask(ids: list[int], opening: list[int], end: int) -> list[bool]:
    """Mark the tokens of the assistant's answers, the end of turn included."""
    mask = [False] * len(ids)
    inside = False
    for i in range(len(ids)):
        if inside:
            mask[i] = True
            inside = ids[i] != end
        elif ids[i] == opening[-1] and ids[max(0, i + 1 - len(opening)) : i + 1] == opening:
            inside = True
    return mask


class Batches(Dataset):
    """Maps a step to one rank's (ids (rows, length+1), weights (rows, length)).

    Documents fill each row end to end; what is in a row depends on (seed, step, row) only.
    """

    def __init__(
        self,
        seed: int,
        curriculum: tuple[Stage, ...],
        corpus: Corpus,
        tokenizer: Tokenizer,
        rank: int,
        ranks: int,
    ) -> None:
        self.seed, self.curriculum, self.corpus, self.tokenizer = seed, curriculum, corpus, tokenizer
        self.rank, self.ranks = rank, ranks
        self.lexicon = build_lexicon(corpus, tokenizer)
        self.opening = tokenizer.encode(_ANSWER).ids
        self.turn_end = tokenizer.token_to_id("<|im_end|>")
        self.separator = tokenizer.token_to_id(_END)

    def __len__(self) -> int:
        return sum(stage.steps for stage in self.curriculum)

    def stage_of(self, step: int) -> Stage:
        """Return the stage that a step lies in."""
        for stage in self.curriculum:
            if step < stage.steps:
                return stage
            step -= stage.steps
        raise IndexError(step)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        stage = self.stage_of(step)
        mine = range(self.rank, stage.rows, self.ranks)
        rows = [self._row(stage, Random(f"{self.seed}/{step}/{row}")) for row in mine]
        return torch.tensor([ids for ids, _ in rows]), torch.tensor([weights for _, weights in rows])

    def _row(self, stage: Stage, random: Random) -> tuple[list[int], list[float]]:
        size = stage.length + 1
        tasks = Tasks(Words(self.lexicon, random), stage.sizes, self.corpus)
        names, shares = list(stage.mix), list(stage.mix.values())
        ids: list[int] = []
        weights: list[float] = []
        misses = 0
        while len(ids) < size:
            # After documents that did not fit come small ones, then text fills the rest.
            name = (
                random.choices(names, shares)[0]
                if misses < 2
                else random.choice(_SMALL)
                if misses < 8
                else "text"
            )
            document = self.tokenizer.encode(getattr(tasks, name)()).ids
            if len(ids) + len(document) + 1 > size and name != "text":
                misses += 1
                continue
            mask = (
                [TEXT_WEIGHT] * len(document)
                if name == "text"
                else [float(marked) for marked in answer_mask(document, self.opening, self.turn_end)]
            )
            ids += [*document, self.separator]
            weights += [*mask, 0.0]
        return ids[:size], weights[1:size]


# --- tests ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt that ends where the assistant has to answer, and the expected answer."""

    prompt: str
    answer: str


def split_answers(text: str) -> list[Case]:
    """Return one case per assistant turn of a rendered conversation."""
    cases = []
    at = text.find(_ANSWER)
    while at >= 0:
        start = at + len(_ANSWER)
        stop = text.index("<|im_end|>", start)
        cases.append(Case(text[:start], text[start:stop]))
        at = text.find(_ANSWER, stop)
    return cases


def test_documents(
    name: str, count: int, seed: int, lexicon: Lexicon, corpus: Corpus, sizes: Sizes
) -> list[str]:
    """Return fresh documents of a named test set, each with words of its own."""
    makers: dict[str, tuple[str, Callable[[Tasks], str]]] = {
        "recall": ("mixed", Tasks.recall),
        "recall16": ("known", partial(Tasks.recall, pairs=16, questions=4)),
        "recall_unseen": ("unseen", Tasks.recall),
        "recall_single": ("single", partial(Tasks.recall, pairs=8, questions=4)),
        "needle": ("mixed", Tasks.needle),
        "copy": ("mixed", Tasks.copy),
        "copy_unseen": ("unseen", partial(Tasks.copy)),
        "write": ("mixed", partial(Tasks.tool, name="Write", turns=1)),
        "write_unseen": ("unseen", partial(Tasks.tool, name="Write", turns=1)),
        "tool": ("mixed", Tasks.tool),
        "add": ("mixed", partial(Tasks.add, turns=1)),
        "sort": ("known", Tasks.sort),
    }
    kind, make = makers[name]
    random = Random(f"test/{seed}/{name}")
    return [make(Tasks(Words(lexicon, random, kind), sizes, corpus, tests=True)) for _ in range(count)]
