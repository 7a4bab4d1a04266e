"""Text of records as people may see it."""

_VISIBLE = " \n\t"


def visible(text: str) -> str:
    """Show what cannot be seen or would turn text around: control characters, marks of direction, surrogates.

    A record may hold anything; spaces of all kinds become plain ones.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in _VISIBLE else " " if char.isspace() else _code(char)
        for char in text
    )


def _code(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{{{ord(char):x}}}"
