"""What engines promise on the wire, and how each wants to be asked."""

from refute.wire.endpoint import Dialect

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
)
