from refute.explain import fields


def test_what_a_terminal_would_obey_is_escaped() -> None:
    case = {"text": "\x1b[2J\u202ea\u00e9\n", "ids": [1], "again": ["\u202e"]}
    assert fields(case) == """text \\x1b[2J\\u202ea\u00e9\\n; ids [1]; again ["\\u202e"]"""
