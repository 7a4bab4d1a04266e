"""A whole token in one compiled call: what `simd.token` needs to know of a model, worked out once.

Letters as in `backends/base.py`; L layers.
"""

import numpy as np

from refute_runtime.backends.base import WholeForward
from refute_runtime.backends.matrices import Matrices, Tables, room, rows_at_once
from refute_runtime.backends.simd import token
from refute_runtime.cache import KVCache
from refute_runtime.config import ModelConfig

_PRODUCTS = (
    ("attn_q", "attn_k", "attn_v"),
    ("attn_output",),
    ("ffn_gate_inp",),
    ("ffn_gate_exps", "ffn_up_exps"),
    ("ffn_down_exps",),
)


class WholeToken:
    """The matrices of a model whose layers all have experts, for so many threads."""

    def __init__(self, config: ModelConfig, tables: Tables, threads: int) -> None:
        layers = range(config.layers)
        found = [
            [tables.matrices(*(f"blk.{layer}.{part}.weight" for part in parts)) for parts in _PRODUCTS]
            for layer in layers
        ]
        head = tables.matrices("token_embd.weight" if config.tied else "output.weight")
        groups = (1, 1, 1, config.experts_per_token, config.experts_per_token)
        self._held = (found, head)  # the weights, which the tables name by address
        self._tables = np.stack([np.concatenate([each.table for each in layer]) for layer in found])
        self._output = head.table
        self._forms = np.array([*map(_forms, found), _forms([head] * len(_PRODUCTS))])
        self._chunks = np.array(
            [
                [rows_at_once(each.rows, count, threads) for each, count in zip(of, groups, strict=True)]
                for of in [*found, [head] * len(_PRODUCTS)]
            ]
        )
        self._norms = [
            np.stack([tables.vector(f"blk.{layer}.{part}_norm.weight") for layer in layers])
            for part in ("attn", "attn_q", "attn_k", "ffn")
        ]
        self._output_norm = tables.vector("output_norm.weight")
        widest = max(config.hidden, config.heads * config.head_dim)
        self._room = room(1, widest, floats=True)
        self._experts_room = room(config.experts_per_token, config.expert_ffn, floats=True)
        self._config = config

    def run(self, x: np.ndarray, rotation: tuple[np.ndarray, np.ndarray], cache: KVCache) -> WholeForward:
        """From the embedded token x (1, H), which is overwritten. Raises `ContextOverflow`."""
        config = self._config
        past = cache.length
        keys, values = (rows.view(np.uint16) for rows in cache.begin(1))
        L, K = config.layers, config.experts_per_token
        chosen, shares, gaps = np.full((L, K), -1), np.empty((L, K), np.float32), np.empty(L, np.float32)
        logits = np.empty((1, config.vocabulary), np.float32)
        token.token(
            x, self._tables, self._output, self._forms, self._chunks, *self._norms, self._output_norm,
            *rotation, np.float32(config.rms_eps), keys, values, past, np.float32(config.head_dim**-0.5),
            self._room, self._experts_room, chosen, shares, gaps, logits,
        )  # fmt: skip
        return WholeForward(logits, chosen[:, None], shares[:, None], gaps[:, None])


def _forms(found: list[Matrices]) -> list[tuple[bool, bool]]:
    """Whether each product needs values rounded, and as they are; router, gate and up are given the same."""
    forms = [(each.rounded, each.floats) for each in found]
    shared = forms[token.ROUTER], forms[token.GATE_UP]
    forms[token.ROUTER] = (any(rounded for rounded, _ in shared), any(floats for _, floats in shared))
    return forms
