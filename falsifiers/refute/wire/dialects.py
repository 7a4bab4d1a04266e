"""What engines promise on the wire, and how each wants to be asked.

Those of this project's server and of llama-cpp-python's were tried on the engine; the others follow its
documentation. Whether a server takes tools also depends on the model and on its options, so it is asked.
"""

from refute.wire.endpoint import Dialect

_WHOLE_LAW = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0}
REFUTE = Dialect(
    "refute",
    frozenset({"http", "http_seed", "http_logprobs", "http_tools", "http_counters"}),
    fresh={},  # its requests share nothing
    counters={"refute_counters": True},
)
LLAMA_CPP_PYTHON = Dialect(
    "llama-cpp-python",
    frozenset({"http", "http_seed", "http_logprobs"}),
    fresh=None,  # a prompt always goes on from what it shares with the one before
    untruncated=_WHOLE_LAW,
)
LLAMA_CPP = Dialect(
    "llama.cpp",
    frozenset({"http", "http_seed", "http_logprobs", "http_tools"}),
    fresh={"cache_prompt": False},
    untruncated=_WHOLE_LAW,
)
VLLM = Dialect("vllm", frozenset({"http", "http_seed", "http_logprobs", "http_tools"}))
SGLANG = Dialect("sglang", frozenset({"http", "http_seed", "http_logprobs", "http_tools"}))
OPENAI = Dialect("openai", frozenset({"http", "http_logprobs"}))
"""Any other server: seeds are an offer, not a promise, in OpenAI's own documentation."""

OWNERS = {
    "refute": REFUTE,
    "me": LLAMA_CPP_PYTHON,
    "llamacpp": LLAMA_CPP,
    "vllm": VLLM,
    "sglang": SGLANG,
}
"""By what an engine writes as `owned_by` in its list of models."""
DIALECTS = {each.name: each for each in (*OWNERS.values(), OPENAI)}
