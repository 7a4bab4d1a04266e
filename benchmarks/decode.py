"""How fast the bundled runtime reads a prompt and writes an answer.

Prefill runs the whole prompt at once, so its time is computing; decode runs one token at a time and reads
every active weight for it, so its time is memory. The slow twin, which reads the whole text again for each
token, shows what the KV cache is worth.

    python benchmarks/decode.py [--model FILE] [--prompt 256] [--tokens 128] [--runs 5]

Prints a table of medians over runs, then one JSON line.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import refute_runtime
from refute_runtime.engine import Engine, Token

POCKET = Path(refute_runtime.__file__).parent / "pocket" / "pocket.gguf"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, default=POCKET, help="a GGUF file (default: the embedded model)"
    )
    parser.add_argument("--backend", default="array")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--prompt", type=int, default=256, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of the answer")
    parser.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


def rates(engine: Engine, prompt: list[int], tokens: int, *, twin: bool) -> tuple[float, float]:
    """Prompt tokens per second of the prefill, answer tokens per second after the first."""
    started = time.perf_counter_ns()
    answer: list[Token] = list(engine.generate(prompt, max_tokens=tokens, twin=twin, stop=False))
    prefill = 1e9 * len(prompt) / (answer[0].prefilled_ns - started)
    return prefill, 1e9 * (tokens - 1) / (answer[-1].time_ns - answer[0].time_ns)


def main() -> None:
    args = arguments()
    engine = Engine.load(args.model, args.backend, args.device)
    ordinary = engine.tokenizer.ordinary_ids
    prompt = [ordinary[i * 7919 % len(ordinary)] for i in range(args.prompt)]
    rates(engine, prompt, 4, twin=False)  # dequantizes the weights
    cached = [rates(engine, prompt, args.tokens, twin=False) for _ in range(args.runs)]
    few = min(args.tokens, 16)
    twin = [rates(engine, prompt, few, twin=True) for _ in range(args.runs)]

    result = {
        "model": args.model.name,
        **engine.settings,
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "prompt": args.prompt,
        "tokens": args.tokens,
        "runs": args.runs,
        "prefill_tok_s": round(statistics.median(rate for rate, _ in cached), 1),
        "decode_tok_s": round(statistics.median(rate for _, rate in cached), 1),
        "decode_tok_s_runs": [round(rate, 1) for _, rate in cached],
        "twin_tok_s": round(statistics.median(rate for _, rate in twin), 1),
    }
    print(f"{args.model.name}, {engine.backend.name} on {engine.backend.device}, load {result['load']}")
    print(f"  prefill, {args.prompt} tokens     {result['prefill_tok_s']:>10} tok/s")
    print(f"  decode, {args.tokens} tokens      {result['decode_tok_s']:>10} tok/s")
    print(f"  slow twin, {few} tokens    {result['twin_tok_s']:>10} tok/s")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
