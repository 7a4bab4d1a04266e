"""Jinja for templates of strangers: sandboxed, and bounded in steps, time and size.

Python cannot stop a thread, so the template is made to stop itself: each loop iteration, macro, filter,
call and output pays from a `Budget`. What one of them can do in one go is bounded by leaving out the
filters and methods that turn small input into large output.
"""
# ruff: noqa: N802 (Jinja's visitor calls methods by the names of node classes)

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Template, Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

_BUDGET = " budget"  # names with a space: no template can spell them
_STEP = " step"
_CONCAT = " concat"
_COMPARED = " compared"
# Of the stock filters those that work in proportion to what they are given and that chat templates use.
_FILTERS = (
    "abs",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "int",
    "items",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "reverse",
    "round",
    "select",
    "selectattr",
    "sort",
    "string",
    "title",
    "trim",
    "unique",
    "upper",
)
_AMPLIFIERS = frozenset(
    {"center", "expandtabs", "format", "format_map", "ljust", "rjust", "translate", "zfill"}
)
_LARGEST_INTEGER = 4096  # bits
_WIDEST_INDENT = 16


class OverBudgetError(Exception):
    """The template does more than a chat template needs to."""


@dataclass(slots=True)
class Budget:
    """What one rendering may still do."""

    steps: int = 1_000_000  # iterations, calls, outputs, values looked at
    characters: int = 64_000_000  # produced on the way, not only in the end
    size: int = 8_000_000  # of any one value, and of the final text
    seconds: float = 10.0
    clock: Callable[[], float] = time.monotonic
    _deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self._deadline = self.clock() + self.seconds

    def spend(self, characters: int = 0) -> None:
        """Pay for one step and the text it makes; raise OverBudgetError where that is too much."""
        self.steps -= 1
        self.characters -= characters
        if self.steps < 0:
            raise OverBudgetError("it takes too many steps")
        if self.characters < 0 or characters > self.size:
            raise OverBudgetError("its text grows too long")
        if self.clock() > self._deadline:
            raise OverBudgetError(f"it takes longer than {self.seconds:g} s")

    def spend_value(self, value: object, depth: int = 0) -> None:
        """Pay for a value before it is spelt or compared: lists of lists are small and spell endlessly."""
        if depth > 100:
            raise OverBudgetError("its values are nested too deeply")
        if isinstance(value, str):
            self.spend(len(value))
        elif isinstance(value, Mapping):
            for key, item in value.items():
                self.spend_value(key, depth + 1)
                self.spend_value(item, depth + 1)
        elif isinstance(value, (list, tuple)):
            for item in value:
                self.spend_value(item, depth + 1)
        elif value is None or isinstance(value, (bool, int, float, Undefined)):
            self.spend()
        else:
            raise SecurityError(f"a {type(value).__name__} cannot be written as text")


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment in which Hugging Face renders chat templates, with every step paid for."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"], finalize=_emitted
        )
        self.globals = {name: self.globals[name] for name in ("dict", "namespace", "range")}
        stock = ImmutableSandboxedEnvironment()
        self.filters = {name: _paid(stock, name) for name in _FILTERS} | {
            "join": _join,
            "replace": _replace,
            "safe": _safe,
            "tojson": _to_json,
            _STEP: _step,
            _CONCAT: _concat,
            _COMPARED: _compared,
        }

    def template(self, tree: nodes.Template) -> Template:
        """Compile a tree, metered."""
        Metered().visit(tree)
        return self.from_string(tree.set_environment(self))  # type: ignore[arg-type]

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str) and attr in _AMPLIFIERS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ARG002
        """Leave `str.format` to `is_safe_attribute`, which refuses it: a field width makes any length."""
        return None

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        size = 0
        if operator == "%" and isinstance(left, (str, bytes)):
            raise SecurityError("formatting with % is not available to chat templates")
        if operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
            size = len(left) + len(right)
        elif operator == "*" and isinstance(left, Sized) and isinstance(right, int):
            size = len(left) * max(right, 0)
        elif operator == "*" and isinstance(right, Sized) and isinstance(left, int):
            size = len(right) * max(left, 0)
        elif operator in {"*", "**"} and isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if bits > _LARGEST_INTEGER:
                raise OverBudgetError("its numbers grow too large")
        _budget(context).spend(size)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        budget = _budget(context)
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str) and name == "join" and args:
            args = (_paid_parts(budget, owner, args[0]), *args[1:])
        elif isinstance(owner, str) and name == "replace" and len(args) >= 2:
            _spend_replacement(budget, owner, str(args[0]), str(args[1]))
        result = super().call(context, obj, *args, **kwargs)
        budget.spend(len(result) if isinstance(result, str) else 0)
        return result


class Metered(NodeTransformer):
    """Put a paid step into every loop and macro; make joins and comparisons pay before they are made."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, _paid_pass(node.body, node.lineno))
        if node.test is not None:
            node.test = nodes.And(_filter(_STEP, nodes.Const(0)), node.test, lineno=node.lineno)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, _paid_pass(node.body, node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filter(_CONCAT, nodes.List(node.nodes, lineno=node.lineno))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _filter(_COMPARED, node.expr)
        for operand in node.ops:
            operand.expr = _filter(_COMPARED, operand.expr)
        return node


def render(template: Template, variables: Mapping[str, object], budget: Budget) -> str:
    """Render a metered template. Raises OverBudgetError, and whatever the template does wrong."""
    pieces, size = [], 0
    for piece in template.generate({**variables, _BUDGET: budget}):
        size += len(piece)
        if size > budget.size:
            raise OverBudgetError("its text grows too long")
        pieces.append(piece)
    return "".join(pieces)


def _budget(context: Context) -> Budget:
    budget: Budget = context.parent[_BUDGET]
    return budget


def _filter(name: str, value: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, [], [], None, None, lineno=value.lineno)


def _paid_pass(body: list[nodes.Node], line: int) -> nodes.ExprStmt:
    """Build the statement that pays for one pass through a body and for the literal text in it."""
    literal = sum(len(data.data) for child in body for data in child.find_all(nodes.TemplateData))
    return nodes.ExprStmt(_filter(_STEP, nodes.Const(literal, lineno=line)), lineno=line)


@pass_context
def _step(context: Context, characters: int) -> bool:
    _budget(context).spend(characters)
    return True


@pass_context
def _emitted(context: Context, value: object) -> object:
    _budget(context).spend_value(value)
    return value


@pass_context
def _compared(context: Context, value: object) -> object:
    budget = _budget(context)
    if isinstance(value, (list, tuple, Mapping)):
        budget.spend_value(value)
    else:
        budget.spend()
    return value


@pass_context
def _concat(context: Context, values: list[object]) -> str:
    return "".join(_paid_parts(_budget(context), "", values))


def _paid(stock: ImmutableSandboxedEnvironment, name: str) -> Callable[..., Any]:
    """Wrap a stock filter. Asking for the context also keeps Jinja from running it while it compiles."""

    @pass_context
    def paid(context: Context, value: Any, /, *args: Any, **kwargs: Any) -> Any:
        budget = _budget(context)
        if not isinstance(value, str) and name in {"capitalize", "lower", "string", "title", "trim", "upper"}:
            budget.spend_value(value)  # these spell it first
        result = stock.call_filter(name, value, args, kwargs, context)
        budget.spend(len(result) if isinstance(result, (str, list)) else 0)
        return result

    return paid


def _paid_parts(budget: Budget, separator: str, values: Iterable[object]) -> list[str]:
    """Spell values that are about to be joined, paid for all together."""
    parts, size = [], 0
    for value in values:
        budget.spend_value(value)
        parts.append(str(value))
        size += len(parts[-1]) + len(separator)
        if size > budget.size:
            raise OverBudgetError("its text grows too long")
    return parts


def _spend_replacement(budget: Budget, text: str, old: str, new: str) -> None:
    budget.spend(len(text) + text.count(old) * len(new))


@pass_context
def _join(context: Context, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    """Join like the stock filter."""
    if attribute is not None:
        value = (context.environment.getitem(item, attribute) for item in value)
    return str(d).join(_paid_parts(_budget(context), str(d), value))


@pass_context
def _replace(context: Context, value: object, old: str, new: str, count: int = -1) -> str:
    """Replace like the stock filter."""
    budget = _budget(context)
    budget.spend_value(value)
    _spend_replacement(budget, str(value), str(old), str(new))
    return str(value).replace(str(old), str(new), count)


@pass_context
def _safe(context: Context, value: object) -> object:
    """Do nothing: the text of a chat template is not HTML."""
    _budget(context).spend()
    return value


@pass_context
def _to_json(
    context: Context,
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    *,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as Hugging Face does, without the stock filter's HTML escapes."""
    budget = _budget(context)
    budget.spend_value(value)
    if indent is not None and not (isinstance(indent, int) and 0 <= indent <= _WIDEST_INDENT):
        raise SecurityError(f"tojson(indent={indent!r}) is not an integer from 0 to {_WIDEST_INDENT}")
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    return "".join(_paid_chunks(budget, encoder.iterencode(value)))


def _paid_chunks(budget: Budget, chunks: Iterator[str]) -> Iterator[str]:
    for chunk in chunks:
        budget.spend(len(chunk))
        yield chunk
