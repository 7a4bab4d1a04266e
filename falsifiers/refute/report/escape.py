"""Text from records as text, wherever it is shown: a record may hold anything.

Control characters, and what turns the direction of writing, are shown and do nothing.
"""

import re

from refute.report.words import short

LIMIT = 300
_KEPT = " \n\t"
# All that begins something in Markdown or HTML, and what renderers make links, mentions and mathematics of.
_MARKED = re.compile(r"[\\`*_{}\[\]<>&|~!$:@#^=]|(?<=[wW])\.")
_CALLING = "@#"  # an invisible character behind them, as mentions are looked for in the text itself


def visible(text: str) -> str:
    """Show what cannot be seen; spaces of all kinds become plain ones, but for ends of lines and tabs."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in _KEPT else " " if char.isspace() else _code(char)
        for char in text
    )


def one_line(text: str, limit: int = LIMIT) -> str:
    """Return one line of at most about `limit` characters, which a terminal only shows."""
    indent = text[: len(text) - len(text.lstrip(" "))]
    return indent + visible(short(text, limit))


def in_markdown(text: str, limit: int = LIMIT) -> str:
    """Return one line that Markdown, with tables and HTML in it, reads as that text, wherever it stands."""
    return _MARKED.sub(_reference, one_line(text, limit).strip())


def command_text(text: str, limit: int = LIMIT) -> str:
    """Return the message of a workflow command."""
    return one_line(text, limit).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def command_property(text: str, limit: int = LIMIT) -> str:
    """Return a property of a workflow command, such as a title or a file."""
    return command_text(text, limit).replace(":", "%3A").replace(",", "%2C")


def xml_text(text: str, limit: int = LIMIT) -> str:
    """Return text that XML 1.0 can hold; escaping its marks is the writer's part."""
    return "".join(each if _in_xml(ord(each)) else f"\\u{ord(each):04x}" for each in one_line(text, limit))


def _code(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{{{ord(char):x}}}"


def _reference(match: re.Match[str]) -> str:
    behind = "&#8288;" if match[0] in _CALLING else ""
    return f"&#{ord(match[0])};{behind}"


def _in_xml(code: int) -> bool:
    return 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or 0x10000 <= code <= 0x10FFFF
