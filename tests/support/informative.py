"""Fields that may be changed without a rule that tells of it, and why that may be.

A pattern is a file and a pointer; `*` matches anything. Those of `INFORMATIVE` survive once the listing is
redone; none of them bears on a verdict: `test_mutations` derives every status again with each one changed.
Those of `MADE_UP` survive when all that follows from samples is redone too: whoever makes up samples that fit
can make up a verdict, and no rule can know. Docs say so.
"""

INFORMATIVE = {
    "findings.json#/provenance/packages/*": "which code of others was installed; two of them are told twice",
    "findings.json#/provenance/python/*": "which Python ran",
    "findings.json#/provenance/argv*": "the command line; what it asks for must be what was requested",
    "findings.json#/provenance/process/*": "which process ran; the contracts of one session have one",
    "findings.json#/provenance/facts/*/source": "where a fact was read",
    "findings.json#/provenance/facts/container/value": "no part of the testbed's fingerprint",
    "findings.json#/provenance/facts/governor/value": "no part of the testbed's fingerprint",
    "findings.json#/provenance/facts/kernel/value": "no part of the testbed's fingerprint",
    "findings.json#/provenance/facts/machine/value": "no part of the testbed's fingerprint",
    "findings.json#/provenance/facts/memory_limit_bytes/value": "no part of the testbed's fingerprint",
    "findings.json#/provenance/facts/system/value": "no part of the testbed's fingerprint",
    "findings.json#/provenance/facts/virtualization/value": "no part of the testbed's fingerprint",
    "findings.json#/provenance/harness/digest": "a note tells where it is not today's",
    "findings.json#/requested/markers": "which falsifiers were chosen; the plan says it too",
    "findings.json#/requested/model_origin": "who chose the model",
    "findings.json#/requested/profile": "what the run was for",
    "findings.json#/requested/workers": "how many processes ran beside each other",
    "contract.yaml#/title": "prose",
    "contract.yaml#/description": "prose",
    "contract.yaml#/references": "prose",
    "contract.yaml#/scope/*": "prose",
    "contract.yaml#/history/*/*": "prose: what changed when",
    "telemetry.jsonl#/*/cpu_percent": "what the host did, as far as a host can",
    "telemetry.jsonl#/*/load1": "what the host did",
    "telemetry.jsonl#/*/rss_bytes": "what the host did",
    "telemetry.jsonl#/*/gpus*": "what the host did, as far as it has such GPUs",
    "telemetry.jsonl#/*/t_ns": "when that was, but for two seconds",
    "*.json#/seconds": "how long an attack took; it follows from two times, but for two seconds",
    "*.json#/faults": "how many smaller doses were tried",
    "*.json#*observations/*/case*": "what was asked; a challenge asks it again",
    "*.json#*observations/*/samples*": "samples that no judgement reads; a challenge measures them again",
    "*.json#/faults/*/observations": "how often a fault that was caught was met",
    "*.json#/noise/*": "probes of the host, as long as it stays as steady as it has to be",
}

MADE_UP = {
    "*.json#*observations": "which cases were tried, as long as there are enough",
    "*.json#/counterexample/*": "what refuted, as long as it does",
    "*.json#/replays": "whether it refuted again",
    "*.json#/settings/*/observed": "what the engine said of itself after the attack",
}
