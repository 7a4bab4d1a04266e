"""Train the pocket model: Muon for the matrices of the layers, AdamW for the rest, step-based schedule.

Every rank is a process with one thread that takes its share of each batch; they meet twice per step, so other
work on the machine slows them less than threads that meet thousands of times. A run is determined by the seed,
the step counts, the ranks and the corpus, up to rounding. It can be killed and started again with the same
command: it resumes from the last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from corpus import load_corpus
from data import Batches, Stage, answer_mask, stages, test_documents
from model import Pocket, Shape
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Subset

BALANCE_WEIGHT, Z_WEIGHT = 0.01, 1e-3
MUON_RATE, MUON_MOMENTUM, DECAY = 0.02, 0.95, 0.02
ADAM_RATE, ADAM_BETAS = 2e-3, (0.9, 0.95)
WARM_UP, FLAT_SHARE, LAST_RATE = 100, 0.55, 0.01
LOSS_ROWS = 256  # the number of scored tokens is padded to this


def orthogonalised(x: Tensor, steps: int = 5) -> Tensor:
    """Return (count, rows, columns) with all singular values near 1, by the quintic Newton-Schulz iteration."""
    x = x.bfloat16()
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).bfloat16()
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, polynomial, x, beta=3.4445)
    return x.float()


def shared_orthogonalised(x: Tensor) -> Tensor:
    """Orthogonalise with every rank doing its share of the matrices."""
    mine = slice(dist.get_rank(), None, dist.get_world_size())
    out = torch.zeros_like(x)
    out[mine] = orthogonalised(x[mine])
    dist.all_reduce(out)
    return out


def average_gradients(model: Pocket) -> None:
    """Replace every gradient by its mean over the ranks."""
    gradients = [parameter.grad for parameter in model.parameters()]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update is orthogonalised per matrix; equal shapes go in one batch."""

    def __init__(self, parameters: list[Tensor], rate: float) -> None:
        super().__init__(parameters, {"lr": rate})

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters."""
        group = self.param_groups[0]
        by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for parameter in group["params"]:
            state = self.state[parameter]
            momentum = state.setdefault("momentum", torch.zeros_like(parameter))
            momentum.mul_(MUON_MOMENTUM).add_(parameter.grad)
            update = parameter.grad.add(momentum, alpha=MUON_MOMENTUM)
            columns = parameter.shape[-1]
            rows = min(columns, parameter.shape[-2])  # the fused gate | up matrix counts as two
            views = parameter.view(-1, rows, columns), update.view(-1, rows, columns)
            by_shape.setdefault((rows, columns), []).append(views)
        for pairs in by_shape.values():
            updates = shared_orthogonalised(torch.cat([update for _, update in pairs]))
            for (target, _), update in zip(pairs, updates.split([len(p) for p, _ in pairs]), strict=True):
                target.mul_(1 - group["lr"] * DECAY).add_(update, alpha=-group["lr"])


def rate_factor(step: int, total: int) -> float:
    """Warm up, stay, then fall linearly."""
    flat = FLAT_SHARE * total
    fall = 1.0 if step < flat else 1.0 - (1.0 - LAST_RATE) * (step - flat) / (total - flat)
    return min(1.0, (step + 1) / WARM_UP) * fall


def loss_of(model: Pocket, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (weighted loss with the router's terms, mean loss of the answers, shares)."""
    flat = weights.reshape(-1)
    rows = flat.nonzero().squeeze(1)
    rows = functional.pad(rows, (0, -len(rows) % LOSS_ROWS))  # row 0 is repeated at weight 0
    scale = flat[rows]
    scale[int((flat > 0).sum()) :] = 0
    logits, balance, z, shares = model(ids[:, :-1], rows)
    losses = functional.cross_entropy(logits, ids[:, 1:].reshape(-1)[rows], reduction="none")
    loss = (losses * scale).sum() / scale.sum()
    answers = losses.detach()[scale == 1].mean()
    return loss + BALANCE_WEIGHT * balance + Z_WEIGHT * z, answers, shares


@torch.no_grad()
def accuracy(model: Pocket, data: Batches, documents: list[list[int]]) -> float:
    """Return the share of answers whose every token is the model's first choice."""
    counts = torch.zeros(2)  # right, total
    documents = sorted(documents, key=len)[dist.get_rank() :: dist.get_world_size()]
    for at in range(0, len(documents), 16):
        group = documents[at : at + 16]
        width = max(map(len, group))
        ids = torch.tensor([ids + [data.separator] * (width - len(ids)) for ids in group])
        hits = model(ids[:, :-1])[0].argmax(-1) == ids[:, 1:]
        for row, hit in zip(group, hits.tolist(), strict=True):
            mask = answer_mask(row, data.opening, data.turn_end)[1:]
            good = True
            for j, marked in enumerate(mask):
                good = good and (hit[j] or not marked)
                if marked and row[j + 1] == data.turn_end:
                    counts += torch.tensor([float(good), 1.0])
                    good = True
    dist.all_reduce(counts)
    return float(counts[0] / counts[1])


@dataclass(slots=True)
class Run:
    """Where a run keeps its files."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """Return the newest state, model and optimizers."""
        return self.folder / "checkpoint.pt"

    def log(self, record: dict[str, object]) -> None:
        """Append a line to the log."""
        with (self.folder / "log.jsonl").open("a") as out:
            out.write(json.dumps(record) + "\n")

    def save(self, state: dict[str, object]) -> None:
        """Replace the checkpoint in one step."""
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)


def train(
    run: Run, curriculum: tuple[Stage, ...], tokenizer: Tokenizer, seed: int, *, compiled: bool
) -> None:
    """Train from the last checkpoint, or from the start."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    data = Batches(seed, curriculum, load_corpus(), tokenizer, rank, ranks)
    total = len(data)
    model = Pocket(Shape(), torch.bfloat16)
    model.initialise(seed)
    matrices = [p for name, p in model.blocks.named_parameters() if p.ndim >= 2 and "router" not in name]
    chosen = {id(p) for p in matrices}
    optimizers: list[tuple[torch.optim.Optimizer, float]] = [
        (Muon(matrices, MUON_RATE), MUON_RATE),
        (
            torch.optim.AdamW(
                [p for p in model.parameters() if id(p) not in chosen],
                ADAM_RATE,
                ADAM_BETAS,
                weight_decay=0.0,
                fused=True,
            ),
            ADAM_RATE,
        ),
    ]
    step = tokens = 0
    seconds = 0.0
    if run.checkpoint.exists():
        state = torch.load(run.checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for (optimizer, _), saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, tokens, seconds = state["step"], state["tokens"], state["seconds"]
    if compiled:
        for block in model.blocks:
            block.mix = torch.compile(block.mix, dynamic=False)
    tests = {
        name: [
            tokenizer.encode(text).ids
            for text in test_documents(
                name, 32, 0, data.lexicon, data.corpus, curriculum[min(1, len(curriculum) - 1)].sizes
            )
        ]
        for name in (
            "recall",
            "recall_unseen",
            "needle",
            "copy",
            "copy_unseen",
            "write",
            "tool",
            "add",
            "sort",
        )
    }
    loader = DataLoader(Subset(data, range(step, total)), batch_size=None, num_workers=1, prefetch_factor=4)
    begin = time.monotonic() - seconds
    smooth = None
    for ids, weights in loader:
        for optimizer, rate in optimizers:
            optimizer.param_groups[0]["lr"] = rate * rate_factor(step, total)
        loss, answers, shares = loss_of(model, ids, weights)
        loss.backward()
        average_gradients(model)
        for optimizer, _ in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, tokens = step + 1, tokens + weights.numel() * ranks
        smooth = float(answers) if smooth is None else 0.95 * smooth + 0.05 * float(answers)
        seconds = time.monotonic() - begin
        if step % 20 == 0 and rank == 0:
            run.log(
                {
                    "step": step,
                    "seconds": round(seconds, 1),
                    "tokens": tokens,
                    "answer_loss": round(smooth, 4),
                    "shares": [[round(share, 3) for share in layer] for layer in shares.tolist()],
                }
            )
        if step % 100 == 0 or step == total:
            with torch.compiler.set_stance("force_eager"):
                scores = {
                    name: round(accuracy(model, data, documents), 3) for name, documents in tests.items()
                }
            if rank == 0:
                run.log({"step": step, "accuracy": scores})
                run.save(
                    {
                        "model": model.state_dict(),
                        "optimizers": [o.state_dict() for o, _ in optimizers],
                        "step": step,
                        "tokens": tokens,
                        "seconds": seconds,
                    }
                )


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer", type=Path, help="tokenizer.json")
    parser.add_argument("folder", type=Path, help="where checkpoint.pt and log.jsonl go")
    parser.add_argument("--rank", type=int, default=0, help="which process this is; start all of them")
    parser.add_argument("--ranks", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="stretch the steps of every stage")
    parser.add_argument("--compile", action="store_true", help="compile attention (needs a C++ compiler)")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    meeting = (arguments.folder / "meeting").absolute()  # must not exist when a run is started again
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=arguments.rank, world_size=arguments.ranks
    )
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    train(
        Run(arguments.folder), stages(arguments.scale), tokenizer, arguments.seed, compiled=arguments.compile
    )
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
