"""Chat templates that fail or mean harm."""

from itertools import count

import pytest
from chat_parts import TEMPLATES, TOKENIZER, WRITE, call, specials_in, template, user

from refute_runtime.chat import ChatTemplate
from refute_runtime.chat_sandbox import Budget, OverBudgetError, Sandbox, render
from refute_runtime.errors import TemplateError


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for %}", "does not compile: line 1"),
        ("a\n{{ 'x'|nonsense }}", "does not compile: line 2"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "does not compile"),
        ("x" * 1_000_001, "has 1000001 characters"),
    ],
)
def test_a_template_that_does_not_compile_is_told(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        template(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('no such role') }}", "refuses the messages: no such role"),
        ("{{ messages[0].nothing.more }}", "fails: UndefinedError"),
        ("{{ 1 / 0 }}", "fails: ZeroDivisionError"),
        ("{{ 'a' + 1 }}", "fails: TypeError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails: RecursionError"),
        ("{% include 'x' %}", "fails: TypeError"),
        ("{{ ''.__class__.__mro__ }}", "fails: SecurityError"),
        ("{{ messages.append(1) }}", "fails: SecurityError"),
        ("{{ messages[0].update({}) }}", "fails: SecurityError"),
        ("{{ '{0}'.format(1) }}", "fails: SecurityError"),
        ("{{ 'x'['format'](1) }}", "fails: SecurityError"),
        ("{{ '%099999999d' % 1 }}", "fails: SecurityError"),
        ("{{ 'x'.center(10 ** 9) }}", "fails: SecurityError"),
        ("{{ 1|tojson(indent=1000000) }}", "fails: SecurityError"),
        ("{{ range }}", "fails: SecurityError"),
        ("{{ range(10 ** 9) }}", "fails: OverflowError"),
        ("{{ cycler }}{{ lipsum(n=100) }}", "fails: UndefinedError"),
    ],
)
def test_a_template_that_fails_is_told(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        template(source).encode([user("a")])


LOOP = "{% for i in range(100000) %}"
DOUBLING = "{% set ns = namespace(x='aa', y='aa') %}{% for i in range(60) %}%s{% endfor %}"


@pytest.mark.parametrize(
    "source",
    [
        LOOP * 4 + "{% endfor %}" * 4,
        LOOP * 3 + "{{ 1 }}" + "{% endfor %}" * 3,
        "{% for i in range(100000) if false %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% for x in [1] recursive %}{{ loop([1, 1]) if loop.depth < 60 }}{% endfor %}",
        LOOP + "x" * 1000 + "{% endfor %}",
        "{% set x %}" + LOOP + "x" * 1000 + "{% endfor %}{% endset %}",
        "{{ 'a' * 10 ** 12 }}",
        "{{ 10 ** 12 * 'a' }}",
        "{{ [1] * 10 ** 12 }}",
        "{{ 9 ** (9 ** 9) }}",
        DOUBLING.replace("%s", "{% set ns.x = ns.x ~ ns.x %}"),
        DOUBLING.replace("%s", "{% set ns.x = ns.x + ns.x %}"),
        DOUBLING.replace("%s", "{% set ns.x = [ns.x, ns.x]|join %}"),
        DOUBLING.replace("%s", "{% set ns.x = ''.join([ns.x, ns.x]) %}"),
        DOUBLING.replace("%s", "{% set ns.x = ns.x|replace('a', ns.x) %}"),
        DOUBLING.replace("%s", "{% set ns.x = ns.x.replace('a', ns.x) %}"),
        DOUBLING.replace("%s", "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"),
        DOUBLING.replace("%s", "{% set ns.x = [ns.x, ns.x] %}") + "{{ ns.x }}",
        DOUBLING.replace("%s", "{% set ns.x = [ns.x, ns.x] %}") + "{{ ns.x|tojson }}",
        DOUBLING.replace("%s", "{% set ns.x = [ns.x, ns.x] %}") + "{{ ns.x|string|length }}",
        DOUBLING.replace("%s", "{% set ns.x = {'a': ns.x, 'b': ns.x} %}") + "{{ ns.x ~ '' }}",
        DOUBLING.replace("%s", "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}")
        + "{{ ns.x == ns.y }}",
        "{{ ['x' * 1000000] * 100000 }}",
        "{{ (['x' * 1000000] * 100000)|join }}",
        "{{ (['x' * 1000000] * 100000)|map('upper')|list|length }}",
    ],
)
def test_a_template_without_end_is_stopped(source: str) -> None:
    # Fewer steps than by default, for speed, and no deadline, so that the host's speed decides nothing.
    chat = ChatTemplate(source, TOKENIZER, budget=lambda: Budget(steps=20_000, seconds=float("inf")))
    with pytest.raises(TemplateError, match="does not finish"):
        chat.render_text([])


def test_time_ends_a_template() -> None:
    sandbox = Sandbox()
    ticks = count()
    budget = Budget(seconds=5.0, clock=lambda: float(next(ticks)))
    endless = sandbox.template(sandbox.parse("{% for i in range(100) %}{{ i }}{% endfor %}"))
    with pytest.raises(OverBudgetError, match="longer than 5 s"):
        render(endless, {}, budget)


def test_a_long_conversation_is_within_the_budget() -> None:
    messages = [message for i in range(300) for message in (user(f"q{i}" * 50), call({"x": "y" * 500}))]
    ids = TEMPLATES["coder"].encode(messages, [WRITE] * 20)
    assert specials_in(ids).count("<tool_call>") == 301
