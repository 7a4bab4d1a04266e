"""Chat messages to token ids, through the chat template that the model file carries.

Whose text is it? A template writes `<|im_end|>` to end a turn, and a user may type the same ten characters.
Only the first is a control token. So the special tokens in the *template's* literals are exchanged, before
it is compiled, for private-use characters that the messages do not contain. In the rendered text these
characters are the special tokens; all else is plain, and so is a `<|im_end|>` that only came together from
pieces of messages and template. What the template searches for (`'</think>' in content`) stays as it is.
"""
# ruff: noqa: N802 (Jinja's visitor calls methods by the names of node classes)

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

import jinja2
from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from refute_runtime.chat_sandbox import Budget, OverBudgetError, Sandbox, render
from refute_runtime.errors import RequestError, TemplateError
from refute_runtime.messages import normalize_messages, normalize_tools, plain_json, strings
from refute_runtime.tokenizer import Tokenizer, longest_first

_KEY = "tokenizer.chat_template"
_LONGEST_SOURCE = 1_000_000  # characters
_PRIVATE = re.compile("[\U000f0000-\U000ffffd\U00100000-\U0010fffd]")
_PLANES = ((0xF0000, 0xFFFFD), (0x100000, 0x10FFFD))
# Methods that search their owner for their arguments: those stay as the template's author wrote them.
_SEARCHES = frozenset(
    {"count", "endswith", "find", "index", "lstrip", "partition", "removeprefix", "removesuffix", "rfind"}
    | {"rindex", "rpartition", "rsplit", "rstrip", "split", "startswith", "strip"}
)


class ChatTemplate:
    """One chat template over one tokenizer; immutable, so threads may share it."""

    def __init__(
        self,
        source: str,
        tokenizer: Tokenizer,
        *,
        now: Callable[[], datetime] = datetime.now,
        budget: Callable[[], Budget] = Budget,
    ) -> None:
        """Compile a template's source; each rendering gets a budget of its own.

        Raises TemplateError where it does not compile.
        """
        if len(source) > _LONGEST_SOURCE:
            raise TemplateError(
                f"{_KEY} has {len(source)} characters; expected no more than {_LONGEST_SOURCE}."
            )
        self.source = source
        self.sha256 = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        self._tokenizer = tokenizer
        self._now = now
        self._budget = budget
        self._sandbox = Sandbox()
        self._plain = self._compile(_Marks("", {}))
        self._literals = "".join(_literals(self._sandbox.parse(source)))
        self._marks = _Marks.outside(set(_PRIVATE.findall(self._literals)), tokenizer.specials)
        self._marked = self._compile(self._marks)

    @classmethod
    def from_metadata(cls, meta: Mapping[str, object], tokenizer: Tokenizer) -> "ChatTemplate":
        """Compile the file's own template. Raises TemplateError where it has none."""
        source = meta.get(_KEY)
        if not isinstance(source, str):
            found = "missing" if source is None else f"of type {type(source).__name__}"
            raise TemplateError(f"{_KEY} is {found}; expected a string, to write a chat as a prompt.")
        return cls(source, tokenizer)

    def render_text(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        **kwargs: object,
    ) -> str:
        """Render the prompt as text, to be shown: it no longer tells who wrote what."""
        variables = self._variables(messages, tools, add_generation_prompt, kwargs)
        return self._render(self._plain, variables, _Marks("", {}), self._now())

    def encode(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        **kwargs: object,
    ) -> list[int]:
        """Encode the prompt: special tokens where the template writes them, nowhere else.

        Raises RequestError for messages of another form, naming the message; TemplateError where the
        template refuses them, fails or does not finish.
        """
        variables = self._variables(messages, tools, add_generation_prompt, kwargs)
        used = {char for text in strings(variables) for char in _PRIVATE.findall(text)}
        marks, marked = self._marks, self._marked
        if not used.isdisjoint(marks.characters):
            marks = _Marks.outside(used | set(_PRIVATE.findall(self._literals)), self._tokenizer.specials)
            marked = self._compile(marks)
        now = self._now()
        text = self._render(marked, variables, marks, now)
        if marks.spelt(text) != self._render(self._plain, variables, _Marks("", {}), now):
            raise TemplateError(
                f"{_KEY} computes with the text of special tokens in a way that hides which it wrote itself; "
                "expected them written as literals or searched for as literals."
            )
        return self._tokenizer.encode_segments(marks.segments(text))

    def _compile(self, marks: "_Marks") -> jinja2.Template:
        try:
            tree = self._sandbox.parse(self.source)
            _Marking(marks).visit(tree)
            return self._sandbox.template(tree)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(f"{_KEY} does not compile: line {error.lineno}: {error.message}") from error
        except Exception as error:  # a stranger's program: whatever goes wrong is its failure
            raise TemplateError(f"{_KEY} does not compile: {type(error).__name__}: {error}") from error

    def _render(
        self, template: jinja2.Template, variables: Mapping[str, object], marks: "_Marks", now: datetime
    ) -> str:
        names = {"bos_token": self._tokenizer.bos_id, "eos_token": self._tokenizer.eos_id}
        tokens = {
            name: marks.marked(self._tokenizer.text_of(token))
            for name, token in names.items()
            if token is not None
        }
        functions = {"raise_exception": _refuse, "strftime_now": now.strftime}
        try:
            return render(template, {**tokens, **variables, **functions}, self._budget())
        except _RefusedError as error:
            raise TemplateError(f"the chat template refuses the messages: {error}") from None
        except OverBudgetError as error:
            raise TemplateError(f"the chat template does not finish: {error}.") from None
        except Exception as error:  # a stranger's program: whatever goes wrong is its failure
            raise TemplateError(f"the chat template fails: {type(error).__name__}: {error}") from error

    @staticmethod
    def _variables(
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]] | None,
        add_generation_prompt: bool,
        kwargs: Mapping[str, object],
    ) -> dict[str, object]:
        return {
            **{name: plain_json(value, name) for name, value in kwargs.items()},
            "messages": normalize_messages(messages),
            "tools": None if tools is None else normalize_tools(tools),
            "add_generation_prompt": add_generation_prompt,
        }


def _literals(tree: nodes.Template) -> Iterator[str]:
    for data in tree.find_all(nodes.TemplateData):
        yield data.data
    for const in tree.find_all(nodes.Const):
        if isinstance(const.value, str):
            yield const.value


@dataclass(frozen=True)
class _Marks:
    """One private-use character for each special token, in the order of `specials`."""

    characters: str
    specials: Mapping[str, int]

    @classmethod
    def outside(cls, used: set[str], specials: Mapping[str, int]) -> "_Marks":
        """Choose characters that are not used: a run of them, always the first, so that prompts reproduce."""
        count = len(specials)
        for first, last in _PLANES:
            for start in range(first, last - count + 2, max(count, 1)):
                run = "".join(map(chr, range(start, start + count)))
                if used.isdisjoint(run):
                    return cls(run, specials)
        raise RequestError(
            "the messages use the private-use characters of Unicode; expected some to be free."
        )

    def marked(self, text: str) -> str:
        """Exchange special tokens in template text for their marks."""
        by_text = dict(zip(self.specials, self.characters, strict=True))
        return longest_first(by_text).sub(lambda match: by_text[match[0]], text)

    def spelt(self, text: str) -> str:
        """Exchange marks for the text of their tokens."""
        return text.translate(dict(zip(map(ord, self.characters), self.specials, strict=True)))

    def segments(self, text: str) -> Iterator[str | int]:
        """Cut rendered text at the marks: plain text and ids."""
        ids = dict(zip(self.characters, self.specials.values(), strict=True))
        end = 0
        for match in longest_first(self.characters).finditer(text):
            if plain := text[end : match.start()]:
                yield plain
            yield ids[match[0]]
            end = match.end()
        if text[end:]:
            yield text[end:]


class _Marking(NodeTransformer):
    """Mark the special tokens in what a template writes, not in what it searches for."""

    def __init__(self, marks: _Marks) -> None:
        self._marks = marks

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        node.data = self._marks.marked(node.data)
        return node

    def visit_Const(self, node: nodes.Const) -> nodes.Node:
        if isinstance(node.value, str):
            node.value = self._marks.marked(node.value)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        name = node.node.attr if isinstance(node.node, nodes.Getattr) else ""
        if name in _SEARCHES:
            node.node = self.visit(node.node)
        elif name == "replace":
            node.node = self.visit(node.node)
            node.args[1:] = [self.visit(arg) for arg in node.args[1:]]
        else:
            self.generic_visit(node)
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        if node.name != "replace":
            return self.generic_visit(node)
        if node.node is not None:  # None in a filter block
            node.node = self.visit(node.node)
        node.args[1:] = [self.visit(arg) for arg in node.args[1:]]
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        node.node = self.visit(node.node)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        node.value = self.visit(node.value)
        return node


class _RefusedError(Exception):
    """What a template says through `raise_exception`."""


def _refuse(message: object = "") -> NoReturn:
    raise _RefusedError(str(message))
