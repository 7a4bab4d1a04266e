"""What `gpu.py` measured, as tables in Markdown, with the predictions of an H200 beside it."""

import statistics
from collections.abc import Mapping
from typing import Any

# Of an H200 with the 30B shape, worked out before anything ran (see RESULTS.md).
PREDICTED = {
    "read_gb_s": "4,300",
    "node_us": "1.3",
    "launch_us": "5 to 8",
    "decode@0": "620",
    "decode@4096": "545",
    "decode@32768": "300",
}


def tables(results: Mapping[str, Any]) -> str:
    """All steps."""
    steps: Mapping[str, Any] = results["steps"]
    lines = [
        f"{results['found'].get('name')}, {results['model']}",
        "",
        "| step | seconds | |",
        "|---|---|---|",
    ]
    for name, step in steps.items():
        said = step.get("error") or step["result"].get("skipped") or step["result"].get("summary") or "done"
        lines.append(f"| {name} | {step['seconds']:.1f} | {str(said).splitlines()[0]} |")
    figures = {**_result(steps, "limits"), **_result(steps, "speed")}
    if figures:
        lines += ["", "| figure | median | least | most | predicted |", "|---|---|---|---|---|"]
        for name, value in figures.items():
            samples = value if isinstance(value, list) else [value]
            row = (statistics.median(samples), min(samples), max(samples))
            lines.append(f"| {name} | {' | '.join(map(_number, row))} | {PREDICTED.get(name, '')} |")
    parts, bandwidth = _result(steps, "parts"), _result(steps, "limits").get("read_gb_s")
    if parts:
        lines += [
            "",
            "| kernel | launches | µs | MB of weights | share of the bandwidth |",
            "|---|---|---|---|---|",
        ]
        for name, part in parts.items():
            rate = part["weights_mb"] / part["us"] * 1e3 if part["us"] else 0.0  # GB/s
            share = f"{rate / statistics.median(bandwidth):.0%}" if bandwidth and rate else ""
            lines.append(
                f"| {name} | {part['launches']} | {part['us']:.1f} | {part['weights_mb']:.1f} | {share} |"
            )
    lines += _beside_llama(_result(steps, "llama").get("turns", []))
    return "\n".join(lines)


def _beside_llama(turns: list[dict[str, dict[str, float]]]) -> list[str]:
    if not turns:
        return []
    lines = ["", "| figure | refute | llama.cpp | ratio within a turn |", "|---|---|---|---|"]
    for name in turns[0]["refute"]:
        pairs = [(turn["refute"][name], turn["llama"][name]) for turn in turns if name in turn["llama"]]
        if pairs:
            ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
            ratio = statistics.median(mine / other for mine, other in pairs)
            lines.append(f"| {name} | {_number(ours)} | {_number(theirs)} | {ratio:.2f} |")
    return lines


def _result(steps: Mapping[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = steps.get(name, {}).get("result", {})
    return {} if "skipped" in found else found


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
