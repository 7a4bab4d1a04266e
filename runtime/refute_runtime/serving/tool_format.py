"""The formats in which Qwen3 models write tool calls, told apart by what their chat template asks for."""

import functools
import re
from enum import Enum

from jinja2 import nodes

from refute_runtime.chat_sandbox import Sandbox


class ToolFormat(Enum):
    """How a model writes its calls."""

    XML = "xml"
    JSON = "json"


@functools.cache  # a server asks for one template, with every request
def format_of(template_source: str) -> ToolFormat | None:
    """Tell from a chat template that compiles how the model is told to write calls; None for not at all.

    What counts is what the template writes behind the first `<tool_call>` that a call follows: that is in its
    instructions. Comments do not count, and neither does the name of the model.
    """
    tree = Sandbox().parse(template_source)
    if not any(name.name == "tools" for name in tree.find_all(nodes.Name)):
        return None
    literals = (node.as_const() for node in tree.find_all((nodes.TemplateData, nodes.Const)))
    text = "".join(literal for literal in literals if isinstance(literal, str))
    match = re.search(r"<tool_call>\s*(?:(<function=)|\{)", text)
    if match is None:
        return None
    return ToolFormat.XML if match[1] else ToolFormat.JSON
