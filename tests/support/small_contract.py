"""A contract that the simulated engine is attacked with in milliseconds."""

from textwrap import indent

HEAD = """\
id: {id}
version: 1.0.0
title: A small contract
description: It is here to be run in a moment.
model:
  name: none
  architecture: qwen3moe
  sha256: ["0000000000000000000000000000000000000000000000000000000000000000"]
references: []
scope: {{in: [tests], out: []}}
falsifiers:
"""
TAIL = """\
history:
  - {version: 1.0.0, date: 2026-11-23, change: Registered.}
"""
REPEATS = """\
- id: repeats
  alias: ALIAS_REPEATS
  claim: Greedy decoding repeats itself.
  kind: determinism
  requires: [token_ids, seed]
  with: {mode: greedy, max_tokens: 4, prompt_tokens: [1, 4], repeats: 2}
  bound: {cases: 3, confidence: 0.95}
  must_catch: [greedy-sampled]
  needs: []
  discharge: full-model
"""
CACHED = """\
- id: cached
  claim: The cache changes no token.
  kind: cache-equivalence
  requires: [token_ids, cache_off, chunks]
  with: {max_tokens: 4, prompt_tokens: [2, 8], margin: 0.001 logit}
  bound: {cases: 3, confidence: 0.95}
  must_catch: [empty-cache]
  needs: []
  discharge: full-model
"""
FLOOR = """\
- id: floor
  claim: Decoding keeps a floor.
  kind: tok-floor
  requires: [token_ids, timing]
  with: {max_tokens: 4, prompt_tokens: 4}
  bound: {of: decode-rate, statistic: median, above: 5 tok/s, confidence: 0.99, runs: 8, testbeds: [any]}
  must_catch: [slow-clock]
  needs: [small-v1/cached]
  discharge: full-model
"""


def contract(*falsifiers: str, id: str = "small-v1") -> str:
    """Return a contract's YAML; three falsifiers, `repeats`, `cached` and `floor`, if none are given."""
    listed = "".join(falsifiers or (REPEATS, CACHED, FLOOR)).replace("small-v1/", f"{id}/")
    return HEAD.format(id=id) + indent(listed, "  ") + TAIL


def falsifier(id: str, template: str = REPEATS) -> str:
    """Return a falsifier like the template, under another id and claim, and without an alias."""
    named = template.replace("  claim: ", f"  claim: As {id}, ")
    lines = [line for line in named.splitlines(keepends=True) if "alias:" not in line]
    return f"- id: {id}\n" + "".join(lines[1:])
