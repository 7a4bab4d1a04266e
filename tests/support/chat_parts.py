"""What the tests of chat share: a tokenizer, templates, a tool and messages."""

from importlib.resources import as_file, files
from typing import Any

from chat_templates import CODER, JSON
from tiny_vocabulary import CONTROL, USER_DEFINED, metadata

from refute_runtime.chat import ChatTemplate
from refute_runtime.tokenizer import Tokenizer
from refute_runtime.weights import GgufFile


def _pocket() -> tuple[ChatTemplate, Tokenizer]:
    with as_file(files("refute_runtime") / "pocket" / "pocket.gguf") as path, GgufFile.open(path) as file:
        tokenizer = Tokenizer.from_metadata(file.metadata)
        return ChatTemplate.from_metadata(file.metadata, tokenizer), tokenizer


TOKENIZER = Tokenizer.from_metadata(metadata())
TEMPLATES = {"coder": ChatTemplate(CODER, TOKENIZER), "json": ChatTemplate(JSON, TOKENIZER)}
# With the embedded model's own template and tokenizer.
_POCKET, _POCKET_TOKENIZER = _pocket()
EVERY = {**TEMPLATES, "pocket": _POCKET}
TOKENIZERS = {"coder": TOKENIZER, "json": TOKENIZER, "pocket": _POCKET_TOKENIZER}
SPECIALS = [*CONTROL, *USER_DEFINED]
WRITE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "write",
        "description": "Write a <file> & close it.",
        "parameters": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "mode": {"enum": ["a", "w"]}},
            "required": ["path"],
        },
    },
}


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, TOKENIZER)


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


def call(arguments: object) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "write", "arguments": arguments}}
        ],
    }


def specials_in(ids: list[int], tokenizer: Tokenizer = TOKENIZER) -> list[str]:
    """Return the special tokens among ids, in order."""
    return [tokenizer.text_of(token) for token in ids if tokenizer.text_of(token) in tokenizer.specials]
