"""Which format of calls a chat template asks for."""

import json

import pytest
from chat_parts import EVERY
from chat_templates import CODER, JSON

from refute_runtime.serving.tool_format import ToolFormat, format_of


def asked_to_write(instruction: str, quoted: bool) -> str:
    """Make a template that tells a model this, in a string of Jinja or as it stands."""
    text = f"{{{{ {json.dumps(instruction)} }}}}" if quoted else instruction
    return f"{{# <tool_call>[x] #}}{{% if tools %}}{text}{{% endif %}}{{{{ messages[0].content }}}}"


def test_the_format_of_templates_that_are_there() -> None:
    assert format_of(CODER) is ToolFormat.XML
    assert format_of(JSON) is ToolFormat.JSON
    assert format_of(EVERY["pocket"].source) is ToolFormat.XML


@pytest.mark.parametrize(
    "instruction",
    [
        "These functions exist. Begin each call with <tool_call> as in <tool_call>\n<function=example>\n…",
        "Nest a <function=...></function> block within <tool_call></tool_call>:\n\n<tool_call>\n<function=x>",
        "<tool_call><function=NAME><parameter=ARG>VALUE</parameter></function></tool_call>",
    ],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_revisions_of_the_coder_template(instruction: str, quoted: bool) -> None:
    assert format_of(asked_to_write(instruction, quoted)) is ToolFormat.XML


@pytest.mark.parametrize(
    "instruction",
    [
        'Within <tool_call></tool_call> tags:\n<tool_call>\n{"name": <name>, "arguments": <object>}',
        '<tool_call>{"arguments": <object>, "name": <name>}</tool_call>',
        'Write no <function=x> but this: <tool_call>\n{"name": <name>}',
    ],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_revisions_of_the_json_template(instruction: str, quoted: bool) -> None:
    assert format_of(asked_to_write(instruction, quoted)) is ToolFormat.JSON


def test_an_instruction_in_pieces_is_put_together() -> None:
    assert (
        format_of("{{ tools }}{{ '<tool_call>' }}{{ '\\n' + '<function=' ~ name ~ '>' }}") is ToolFormat.XML
    )


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content }}",
        "{{ tools }}",
        "{{ tools }}{# <tool_call>\n<function=x> #}",
        "{# tools #}<tool_call>\n<function=x>",
        "{{ tools }}[TOOL_CALLS][{'name': 'x'}]",
        "{% for tool in tools %}{{ tool }}{% endfor %}<|python_tag|>",
    ],
)
def test_templates_of_no_known_format(source: str) -> None:
    assert format_of(source) is None
