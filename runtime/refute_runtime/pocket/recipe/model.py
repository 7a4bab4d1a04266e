"""Qwen3-MoE in PyTorch, sized for the pocket model; float32 semantics equal to llama.cpp's `qwen3moe`.

B is the batch, T the positions, N = B*T, H the hidden size, E the experts, K the experts used per token and
F the expert width. The router is a softmax over all experts whose top-K are renormalised to one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_ROWS = 128  # expert row counts are padded to this, so that bf16 matrix products meet few distinct shapes


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that the GGUF metadata repeats."""

    vocab: int = 2048
    layers: int = 4
    hidden: int = 256
    heads: int = 8
    kv_heads: int = 2
    head_size: int = 32
    experts: int = 8
    experts_used: int = 2
    expert_size: int = 256
    rope_base: float = 1e6
    norm_eps: float = 1e-6


class _ExpertSum(torch.autograd.Function):
    """The weighted sum of the chosen experts, one matrix product per expert over its sorted rows.

    Written by hand because autograd's own gather and scatter cost more than the products at this size.
    """

    @staticmethod
    def forward(ctx, x, weights, chosen, w_in, w_out, dtype):  # noqa: ANN001, ANN205
        n, k = chosen.shape
        flat = chosen.reshape(-1)
        order = torch.argsort(flat, stable=True)
        counts = torch.bincount(flat, minlength=w_in.shape[0])
        padded = (counts + _ROWS - 1) // _ROWS * _ROWS
        start, padded_start = counts.cumsum(0) - counts, padded.cumsum(0) - padded
        by_expert = flat[order]
        place = torch.arange(n * k) - start[by_expert] + padded_start[by_expert]  # row of each sorted pair
        sizes = padded.tolist()
        token = torch.zeros(sum(sizes), dtype=torch.int64)
        token[place] = order // k
        row_of = torch.empty(n * k, dtype=torch.int64)
        row_of[order] = place  # row of each (token, choice)
        row_weight = torch.zeros(sum(sizes), dtype=dtype)
        row_weight[place] = weights.reshape(-1)[order].to(dtype)

        w_in, w_out = w_in.to(dtype), w_out.to(dtype)
        rows = x.to(dtype).index_select(0, token)  # (rows, H); padding rows repeat token 0 at weight 0
        both = torch.empty(len(rows), w_in.shape[1], dtype=dtype)  # (rows, 2F) gate | up
        y = torch.empty_like(rows)
        hidden = torch.empty(len(rows), w_out.shape[2], dtype=dtype)
        a = 0
        for expert, size in enumerate(sizes):
            if size == 0:
                continue
            b = a + size
            torch.mm(rows[a:b], w_in[expert].T, out=both[a:b])
            gate, up = both[a:b].chunk(2, dim=1)
            torch.mul(functional.silu(gate), up, out=hidden[a:b])
            torch.mm(hidden[a:b], w_out[expert].T, out=y[a:b])
            a = b
        per_choice = y.index_select(0, row_of).view(n, k, -1)
        ctx.save_for_backward(weights, token, row_of, row_weight, rows, both, hidden, per_choice, w_in, w_out)
        ctx.sizes = sizes
        return (per_choice * weights.unsqueeze(-1).to(dtype)).sum(1).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):  # noqa: ANN001, ANN205
        weights, token, row_of, row_weight, rows, both, hidden, per_choice, w_in, w_out = ctx.saved_tensors
        n, k = weights.shape
        low = grad.to(rows.dtype)
        d_weights = (per_choice * low.unsqueeze(1)).sum(-1).to(weights.dtype)
        d_y = low.index_select(0, token) * row_weight.unsqueeze(1)
        d_both, d_rows = torch.empty_like(both), torch.empty_like(rows)
        d_in, d_out = torch.zeros_like(w_in), torch.zeros_like(w_out)
        a = 0
        for expert, size in enumerate(ctx.sizes):
            if size == 0:
                continue
            b = a + size
            torch.mm(d_y[a:b].T, hidden[a:b], out=d_out[expert])
            d_hidden = d_y[a:b] @ w_out[expert]
            gate, up = both[a:b].chunk(2, dim=1)
            sigmoid = torch.sigmoid(gate)
            half = gate.shape[1]
            d_both[a:b, :half] = d_hidden * up * (sigmoid * (1 + gate * (1 - sigmoid)))
            d_both[a:b, half:] = d_hidden * gate * sigmoid
            torch.mm(d_both[a:b].T, rows[a:b], out=d_in[expert])
            torch.mm(d_both[a:b], w_in[expert], out=d_rows[a:b])
            a = b
        d_x = d_rows.index_select(0, row_of).view(n, k, -1).sum(1).to(grad.dtype)
        return d_x, d_weights, None, d_in.float(), d_out.float(), None


class Norm(nn.Module):
    """RMS normalisation with a learned scale."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def rotation(positions: Tensor, size: int, base: float) -> tuple[Tensor, Tensor]:
    """Return cosine and sine (T, size) of the half-split rotary embedding."""
    inverse = base ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
    angle = positions.float().unsqueeze(1) * inverse
    return torch.cat([angle.cos()] * 2, 1), torch.cat([angle.sin()] * 2, 1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the rotary embedding to (B, heads, T, size)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], -1) * sin


class Attention(nn.Module):
    """Grouped-query causal attention with normalised queries and keys."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        wide, narrow = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
        self.q = nn.Linear(shape.hidden, wide, bias=False)
        self.k = nn.Linear(shape.hidden, narrow, bias=False)
        self.v = nn.Linear(shape.hidden, narrow, bias=False)
        self.o = nn.Linear(wide, shape.hidden, bias=False)
        self.q_norm = Norm(shape.head_size, shape.norm_eps)
        self.k_norm = Norm(shape.head_size, shape.norm_eps)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q (B, heads, T, size) and k, v (B, kv_heads, T, size), rotated."""
        b, t, _ = x.shape
        q, k, v = (m(x).float().view(b, t, -1, self.shape.head_size) for m in (self.q, self.k, self.v))
        q, k = self.q_norm(q), self.k_norm(k)
        return rotate(q.transpose(1, 2), cos, sin), rotate(k.transpose(1, 2), cos, sin), v.transpose(1, 2)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attend over (B, T, H)."""
        q, k, v = self.project(x, cos, sin)
        group = self.shape.heads // self.shape.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).reshape(*x.shape[:2], -1))


class Experts(nn.Module):
    """A router and E gated experts, K of them used per token."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.router = nn.Linear(shape.hidden, shape.experts, bias=False)
        self.w_in = nn.Parameter(torch.empty(shape.experts, 2 * shape.expert_size, shape.hidden))  # gate | up
        self.w_out = nn.Parameter(torch.empty(shape.experts, shape.hidden, shape.expert_size))

    def forward(self, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return y (B, T, H), the balance loss (1 = balanced), the z loss and the share of each expert."""
        flat = x.reshape(-1, x.shape[-1])
        with torch.autocast("cpu", enabled=False):
            logits = self.router(flat)  # (N, E)
        probability = logits.softmax(-1)
        weights, chosen = probability.topk(self.shape.experts_used, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        share = torch.bincount(chosen.reshape(-1), minlength=self.shape.experts).float() / chosen.numel()
        balance = self.shape.experts * (share * probability.mean(0)).sum()
        z = logits.logsumexp(-1).square().mean()
        y = _ExpertSum.apply(flat, weights, chosen, self.w_in, self.w_out, dtype)
        return y.view_as(x), balance, z, share


class Block(nn.Module):
    """One pre-norm decoder layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = Norm(shape.hidden, shape.norm_eps)
        self.attention = Attention(shape)
        self.experts_norm = Norm(shape.hidden, shape.norm_eps)
        self.experts = Experts(shape)

    def mix(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stream after attention and its normalised copy for the experts."""
        x = x + self.attention(self.attention_norm(x), cos, sin).float()
        return x, self.experts_norm(x)


class Pocket(nn.Module):
    """The whole model; `dtype` is the type of the matrix products."""

    def __init__(self, shape: Shape, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.shape, self.dtype = shape, dtype
        self.embedding = nn.Embedding(shape.vocab, shape.hidden)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden, shape.norm_eps)
        self.head = nn.Linear(shape.hidden, shape.vocab, bias=False)

    def initialise(self, seed: int) -> None:
        """Draw the weights: fan-in scaled, with the two output projections of every layer at zero."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                continue
            if name.endswith(("attention.o.weight", "w_out")):
                nn.init.zeros_(parameter)
            else:
                small = name.startswith(("embedding", "head")) or "router" in name
                std = 0.02 if small else parameter.shape[-1] ** -0.5
                nn.init.normal_(parameter, std=std, generator=generator)

    def forward(self, ids: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits (of `rows` of the flattened batch if given), balance, z and shares (layers, E)."""
        cos, sin = rotation(torch.arange(ids.shape[1]), self.shape.head_size, self.shape.rope_base)
        x = self.embedding(ids)
        balances, zs, shares = [], [], []
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            for block in self.blocks:
                x, normal = block.mix(x, cos, sin)
                y, balance, z, share = block.experts(normal, self.dtype)
                x = x + y
                balances.append(balance)
                zs.append(z)
                shares.append(share)
            x = self.norm(x)
            if rows is not None:
                x = x.reshape(-1, x.shape[-1]).index_select(0, rows)
            logits = self.head(x).float()
        return logits, torch.stack(balances).mean(), torch.stack(zs).mean(), torch.stack(shares)
