"""Text from records as text, wherever it is shown: a record may hold anything.

Every function here gives one line in which control characters, and what turns the direction of writing, are
shown and do nothing.
"""

from refute.report.words import short

LIMIT = 300
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ,;=%?'-/")


def one_line(text: str, limit: int = LIMIT) -> str:
    """Return one line of at most about `limit` characters, which a terminal only shows."""
    indent = text[: len(text) - len(text.lstrip(" "))]
    line = indent + short(text, limit)
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in line)


def markdown(text: str, limit: int = LIMIT) -> str:
    """Return text that Markdown, with tables and HTML in it, reads as that text and as no mark."""
    return "".join(_entity(each) for each in one_line(text, limit).strip())


def command_text(text: str, limit: int = LIMIT) -> str:
    """Return the message of a workflow command."""
    return one_line(text, limit).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def command_property(text: str, limit: int = LIMIT) -> str:
    """Return a property of a workflow command, such as a title or a file."""
    return command_text(text, limit).replace(":", "%3A").replace(",", "%2C")


def xml_text(text: str, limit: int = LIMIT) -> str:
    """Return text that XML 1.0 can hold; escaping its marks is the writer's part."""
    return "".join(each if _in_xml(ord(each)) else f"\\u{ord(each):04x}" for each in one_line(text, limit))


def _entity(char: str) -> str:
    return char if char in _PLAIN or (ord(char) > 126 and char.isprintable()) else f"&#{ord(char)};"


def _in_xml(code: int) -> bool:
    return 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or 0x10000 <= code <= 0x10FFFF
