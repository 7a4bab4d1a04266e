"""What engines promise on the wire, how each wants to be asked, and where it says what it is.

What is said of this project's server and of llama-cpp-python's was tried on them; the rest follows the
engines' documentation and sources.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from refute.wire.endpoint import Dialect

Keys = tuple[str, ...]
"""The way into a JSON object."""

# llama.cpp's own defaults are 40, 0.95 and 0.05, and its bindings' penalty is 1.1.
_WHOLE_LAW = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0}
# Of a model's generation_config.json, which these engines follow unasked.
_WHOLE_LAW_AT_LARGE = {"top_k": -1, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}

REFUTE = Dialect(
    "refute",
    frozenset({"http", "http_context", "http_seed", "http_logprobs", "http_tools", "http_counters"}),
    fresh={},  # its requests share nothing
    counters={"refute_counters": True},
)
LLAMA_CPP_PYTHON = Dialect(
    "llama-cpp-python",
    frozenset({"http", "http_context", "http_seed", "http_logprobs"}),
    fresh=None,  # a prompt always goes on from what it shares with the one before
    untruncated=_WHOLE_LAW,
)
LLAMA_CPP = Dialect(
    "llama.cpp",
    frozenset({"http", "http_context", "http_seed", "http_logprobs", "http_tools"}),
    fresh={"cache_prompt": False},
    untruncated=_WHOLE_LAW,
)
VLLM = Dialect(
    "vllm",
    frozenset({"http", "http_context", "http_seed", "http_logprobs", "http_tools"}),
    salt="cache_salt",
    untruncated=_WHOLE_LAW_AT_LARGE,
)
SGLANG = Dialect(
    "sglang",
    frozenset({"http", "http_context", "http_seed", "http_logprobs", "http_tools"}),
    salt="cache_salt",
    untruncated=_WHOLE_LAW_AT_LARGE,
)
OPENAI = Dialect("openai", frozenset({"http", "http_context", "http_logprobs"}))
"""Any other server: seeds are an offer, not a promise, in OpenAI's own documentation."""


@dataclass(frozen=True, slots=True)
class Engine:
    """How a server of an engine is known, and where it says more.

    owner: what it writes as `owned_by` in its list of models. about: routes beside `/v1`; the first that
    answers counts. titled: what stands somewhere in what it says about itself, for an owner that says too
    little. version, context: the ways to them in there. only_if: the way to an option of its start without
    which the engine does not keep what the dialect promises. Nothing else of what it says is kept.
    """

    dialect: Dialect
    owner: str | None = None
    about: tuple[str, ...] = ()
    titled: tuple[Keys, str] | None = None
    version: Keys = ()
    context: Keys = ()
    only_if: Mapping[str, Keys] = field(default_factory=dict)


_DOCUMENT = "/openapi.json"
ENGINES = (
    Engine(REFUTE, "refute", (_DOCUMENT,), version=("info", "version")),
    Engine(
        LLAMA_CPP_PYTHON,
        "me",
        (_DOCUMENT,),
        titled=(("info", "title"), "llama.cpp Python API"),
        version=("info", "version"),
    ),
    Engine(
        LLAMA_CPP,
        "llamacpp",
        ("/props",),
        version=("build_info",),
        context=("default_generation_settings", "n_ctx"),
    ),
    Engine(VLLM, "vllm", ("/version",), version=("version",)),
    Engine(
        SGLANG,
        "sglang",
        ("/server_info", "/get_server_info"),
        version=("version",),
        only_if={"http_seed": ("enable_deterministic_inference",), "http_tools": ("tool_call_parser",)},
    ),
    Engine(OPENAI),
)
DIALECTS = {each.dialect.name: each.dialect for each in ENGINES}


def at(value: Any, keys: Keys) -> Any:
    """Follow a way into a JSON value; None where it ends too soon."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
