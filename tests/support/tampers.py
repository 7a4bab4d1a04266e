"""One tampered record per rule: what an editor would do, and the rule that shows it.

`OF_RUN` is tried twice: as a careless editor leaves it, and with the listing redone. Where redoing it hides
the edit from the rule, the rule's id is in `HIDDEN`: other rules, or only a signature, show those.
"""

import base64
import dataclasses
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from audited import Audited, Bundle

from refute.audit.history import Change, History
from refute.audit.subject import Entry
from refute.audit.trees import Trace, Tree, Trees
from refute.reader import CONTRACT, LOG, SIGNATURE, SUMMARY, TELEMETRY
from refute.signing import PAYLOAD_TYPE
from refute.strict_json import dump_strict

Edit = Callable[[Bundle], object]
FLOOR, CACHED, BITS, ANSWERS, PROMISED = (
    "floor.json",
    "cached.json",
    "bits.json",
    "answers.json",
    "promised.json",
)
FAR = "2031-01-01T00:00:00.000Z"
EARLY = "2001-01-01T00:00:00.000Z"


def put(name: str, *steps: str | int, to: object) -> Edit:
    """Set one value in one file."""

    def change(document):
        *way, last = steps
        for step in way:
            document = document[step]
        document[last] = to

    return lambda bundle: bundle.edit(name, change)


def of(name: str, change: Callable[[dict], object]) -> Edit:
    return lambda bundle: bundle.edit(name, change)


def both(*edits: Edit) -> Edit:
    return lambda bundle: [edit(bundle) for edit in edits]


def drop(name: str) -> Edit:
    return lambda bundle: bundle.files.pop(name)


def append(name: str, data: bytes) -> Edit:
    return lambda bundle: bundle.files.update({name: bundle.files.get(name, b"") + data})


def beside(name: str, entry: Entry) -> Edit:
    return lambda bundle: bundle.others.update({name: entry})


def replaced(name: str, old: bytes, new: bytes) -> Edit:
    def change(bundle):
        assert old in bundle.files[name]
        bundle.files[name] = bundle.files[name].replace(old, new, 1)

    return change


def listed_again(bundle):
    bundle.edit(SUMMARY, lambda d: d["findings"].append(dict(d["findings"][0])))


def renamed(bundle):
    bundle.files["other.json"] = bundle.files.pop(FLOOR)
    bundle.edit(SUMMARY, lambda d: listed(d, "floor").update(file="other.json"))


def listed(summary, falsifier):
    return next(each for each in summary["findings"] if each["falsifier"] == falsifier)


def attribute(name, value):
    return lambda bundle: setattr(bundle, name, value)


def samples(index, **values):
    return lambda d: d["observations"][index]["samples"].update(values)


def constant(document):
    tokens = document["observations"][0]["samples"]["cached"]
    for each in document["observations"]:
        each["samples"].update(cached=tokens, full=tokens)


def shifted(document):
    times = document["observations"][1]["samples"]["token_ns"]
    times[2], times[3] = times[3], times[2]


def copied_times(document):
    document["observations"][1]["samples"] = document["observations"][0]["samples"]


def slow(document):
    for each in document["observations"]:
        each["samples"]["token_ns"] = [10**9 * n for n in range(1, 7)]


def longer(document):
    times = document["observations"][0]["samples"]["token_ns"]
    times.append(times[-1] + 10)


def too_fast(document):
    document["observations"][0]["samples"]["token_ns"] = [1000, 1001, 1002, 1003, 1004, 1005]


def redated(document):
    text = str(document["observations"][0]["samples"])
    created = text.partition('"created":')[2][:10]
    for each in document["observations"]:
        each["samples"] = eval(str(each["samples"]).replace(created, "1500000000"))  # ours, and plain


def as_control(document):
    document["observations"] = document["control"]["observations"]


def telemetry(bundle, change):
    lines = bundle.files[TELEMETRY].splitlines(keepends=True)
    bundle.files[TELEMETRY] = b"".join(change(lines))


def later(lines):
    """The last line, minutes after the one before."""
    last = json.loads(lines[-1])
    last["t_ns"] += 120 * 10**9
    last["at"] = (
        (datetime.fromisoformat(last["at"]) + timedelta(minutes=2)).isoformat().replace("+00:00", "Z")
    )
    return [*lines[:-1], json.dumps(last).encode() + b"\n"]


def unsigned(bundle):
    """An envelope that nobody signed."""
    payload = base64.b64encode(bundle.files[SUMMARY]).decode()
    bundle.files[SIGNATURE] = dump_strict({"payload": payload, "payloadType": PAYLOAD_TYPE, "signatures": []})


OF_RUN: dict[str, Edit] = {
    "folder-link": attribute("link", True),
    "folder-readable": attribute("error", "permission denied"),
    "file-plain": beside("more", Entry("link")),
    "file-readable": beside("more", Entry("file", error="permission denied")),
    "listing-there": drop(SUMMARY),
    "json-strict": replaced(FLOOR, b'"alias": null', b'"alias": null,\n"alias": null'),
    "schema-known": put(FLOOR, "schema", to="urn:refute:schema:finding:2"),
    "schema-form": put(FLOOR, "verdict", to="fine"),
    "file-listed": append("more.json", b"{}\n"),
    "file-there": drop(LOG),
    "file-bytes": append(LOG, b"2026-11-30T23:05:20.334Z more\n"),
    "file-sha256": replaced(FLOOR, b'"alias": null', b'"alias":  null'),
    "file-rows": put(SUMMARY, "files", 0, "rows", to=1),
    "listed-once": listed_again,
    "listed-plan": of(SUMMARY, lambda d: d["findings"].pop()),
    "listed-names": renamed,
    "listed-verdict": put(BITS, "verdict", to="survived"),
    "run-name": put(SUMMARY, "run", to="20261124T000000.000Z-00000000"),
    "contract-name": put(SUMMARY, "contract", "id", to="other-v1"),
    "finding-name": put(FLOOR, "falsifier", to="cached"),
    "contract-there": both(drop(CONTRACT), of(SUMMARY, lambda d: d["files"].pop(0))),
    "contract-bytes": append(CONTRACT, b"# more\n"),
    "contract-readable": replaced(CONTRACT, b"id: audited-v1", b"name: audited-v1"),
    "contract-meaning": replaced(CONTRACT, b"above: 2 tok/s", b"above: 1 tok/s"),
    "contract-plan": of(SUMMARY, lambda d: d["plan"]["falsifiers"].pop()),
    "plan-sizes": put(SUMMARY, "plan", "sizes", "floor", to=5),
    "plan-requested": of(SUMMARY, lambda d: d["plan"]["selected"].remove("promised")),
    "taken-over": of(SUMMARY, lambda d: d["findings"][0].update(run="20261124T000000.000Z-00000000")),
    "run-sealed": of(
        SUMMARY, lambda d: d.update(state="running", time={**d["time"], "ended": None, "monotonic_ns": None})
    ),
    "run-whole": put(SUMMARY, "state", to="interrupted"),
    "contract-copy": put(FLOOR, "claim", to="Decoding keeps a high floor."),
    "samples-readable": of(FLOOR, lambda d: d["observations"][0]["samples"].pop("token_ns")),
    "derived-control": of(FLOOR, lambda d: d["control"]["judgement"].update(n=80)),
    "derived-faults": of(FLOOR, lambda d: d["faults"][0].update(must=False)),
    "derived-sensitivity": of(FLOOR, lambda d: d["sensitivity"][0].update(smallest_caught=0.999)),
    "derived-judgement": of(
        FLOOR, samples(0, token_ns=[1, 10**8, 2 * 10**8, 3 * 10**8, 4 * 10**8, 5 * 10**8])
    ),
    "derived-figure": put(FLOOR, "figure", to="9999 ≥ 2 tok/s"),
    "derived-reason": put(FLOOR, "reason", to="all is well"),
    "derived-counters": put(CACHED, "counters", "experts_run", to=1),
    "derived-counterexample": of(BITS, lambda d: d.update(replays=None)),
    "derived-verdict": put(FLOOR, "verdict", to="falsified"),
    "rejudged": put(FLOOR, "rule_version", to="0"),
    "verdict-agrees": both(put(BITS, "rule_version", to="0"), put(BITS, "verdict", to="survived")),
    "fault-planted": of(FLOOR, lambda d: d["faults"][0].update(planted="nowhere")),
    "fault-reason": of(FLOOR, lambda d: d["faults"][0].update(reason="turned very red")),
    "fault-dose": of(FLOOR, lambda d: d["faults"][1].update(dose=0.5)),
    "control-known": put(FLOOR, "control", "target", to="bundled"),
    "target-capable": of(FLOOR, lambda d: d["target"]["capabilities"].remove("timing")),
    "time-order": put(SUMMARY, "time", "ended", to=EARLY),
    "time-run-name": put(SUMMARY, "time", "started", to=EARLY),
    "time-past": put(SUMMARY, "time", "ended", to=FAR),
    "time-clocks": put(SUMMARY, "time", "monotonic_ns", to=10**12),
    "time-seconds": put(FLOOR, "seconds", to=1000),
    "time-finding": put(FLOOR, "started", to=EARLY),
    "time-apart": put(CACHED, "ended", to=FAR),
    "time-samples": of(FLOOR, slow),
    "time-explained": put(FLOOR, "seconds", to=600),
    "time-events": of(FLOOR, shifted),
    "time-unique": of(FLOOR, copied_times),
    "log-agrees": replaced(LOG, b" bits falsified: 2 of 2", b" bits survived: 0 of 2"),
    "outputs-vary": of(CACHED, constant),
    "tokens-known": of(CACHED, lambda d: d["observations"][0]["samples"]["cached"].append(10**6)),
    "tokens-asked": of(FLOOR, longer),
    "runs-numbered": of(FLOOR, lambda d: d["observations"].pop(3)),
    "fault-runs": put(FLOOR, "faults", 0, "observations", 0, "case", "prompt", to=[1, 2, 3, 4]),
    "noise-possible": of(FLOOR, lambda d: d["noise"]["before"]["cpu_ns"].__setitem__(0, 10**9)),
    "rate-possible": of(FLOOR, too_fast),
    "memory-possible": of(FLOOR, samples(0, bytes={"peak": 2**52})),
    "answers-dated": of(ANSWERS, redated),
    "samples-own": of(CACHED, as_control),
    "telemetry-there": both(drop(TELEMETRY), of(SUMMARY, lambda d: d["files"].pop())),
    "telemetry-form": append(TELEMETRY, b'{"t_ns": 1}\n'),
    "telemetry-order": lambda bundle: telemetry(bundle, lambda lines: [*lines[:1], *lines]),
    "telemetry-spans": put(SUMMARY, "time", "monotonic_ns", to=10**12),
    "telemetry-gaps": lambda bundle: telemetry(bundle, later),
    "telemetry-possible": replaced(TELEMETRY, b'"cpu_percent": null', b'"cpu_percent": 101'),
    "signature-form": append(SIGNATURE, b"{}\n"),
    "signature-trusted": attribute("keys", (object(),)),
    "signature-checked": unsigned,
    "gpu-cool": replaced(TELEMETRY, b'"gpus": []', b'"gpus": [{"uuid": "GPU-1", "throttles": ["thermal"]}]'),
    "testbed-derived": put(SUMMARY, "provenance", "facts", "cpu_model", "value", to="Another CPU"),
    "seed-same": put(FLOOR, "seed", to=8),
    "settings-repeat": of(FLOOR, lambda d: d["settings"][0].update(effective="cuda")),
    "requested-done": put(SUMMARY, "requested", "seed", to=8),
    "facts-agree": put(SUMMARY, "provenance", "git", "dirty", to=True),
    "target-same": put(FLOOR, "target", "engine_digest", to="0" * 64),
    "target-simulated": put(FLOOR, "target", "engine", to="refute-fake"),
    "model-architecture": both(
        put(FLOOR, "target", "model_sha256", to="0" * 64), put(FLOOR, "target", "architecture", to="qwen3")
    ),
    "model-layers": put(FLOOR, "target", "moe_layers", to=3),
    "versions-agree": put(SUMMARY, "provenance", "harness", "version", to="9.9.9"),
    "counterexample-file": replaced("bits.counterexample.json", b'"replays": true', b'"replays": false'),
    "secrets-absent": of(SUMMARY, lambda d: d["provenance"]["argv"].append("sk-" + 20 * "a")),
    "secrets-redacted": of(SUMMARY, lambda d: d["provenance"]["argv"].append("--api-key=abcdefghijk")),
    "code-committed": put(SUMMARY, "provenance", "git", "dirty", to=True),
    "commit-known": put(SUMMARY, "provenance", "git", "commit", to=None),
    "contract-current": replaced(CONTRACT, b"cases: 4", b"cases: 3"),
    "contract-versioned": replaced(CONTRACT, b"cases: 4", b"cases: 3"),
    "engine-current": put(FLOOR, "target", "engine_digest", to="0" * 64),
    "harness-current": put(SUMMARY, "provenance", "harness", "digest", to="0" * 64),
}
HIDDEN = {
    "file-listed",
    "file-there",
    "file-bytes",
    "file-sha256",
    "file-rows",
    "listed-verdict",
    "contract-bytes",
}


def traced(audited: Audited, *bundles: Bundle) -> list[Trace]:
    return [Trace.of(bundle.subject(audited.here, audited.library)) for bundle in bundles]


def trees(traces: Sequence[Trace], path: Path, history: History | None = None, **how) -> Trees:
    return Trees([Tree(path, how.get("missing", ""), how.get("stray", ()), history or History())], traces)


def honest_trees(audited: Audited) -> Trees:
    return trees(traced(audited, audited.whole, audited.again), audited.tree)


def _with(edit: Edit, *, which: str = "again") -> Callable[[Audited], Trees]:
    def make(audited):
        bundles = {"whole": audited.whole.copy(), "again": audited.again.copy()}
        edit(bundles[which])
        bundles[which].rehash()
        return trees(traced(audited, *bundles.values()), audited.tree)

    return make


def _history(**what) -> Callable[[Audited], Trees]:
    return lambda audited: dataclasses.replace(
        honest_trees(audited), trees=[Tree(audited.tree, "", (), History(**what))]
    )


def _elsewhere(audited):
    copy = audited.again.copy()
    copy.path = copy.path.replace("evidence", "other")
    append(LOG, b"more\n")(copy)
    return trees(traced(audited, audited.whole, audited.again, copy), audited.tree)


def _repeated(audited):
    """The floor of the first run under the name of another one."""
    copy = audited.again.copy()
    copy.files[FLOOR] = audited.whole.files[FLOOR]
    return trees(traced(audited, audited.whole, copy), audited.tree)


def _without(audited):
    return trees(traced(audited, audited.again), audited.tree)


def _resuming(**changes):
    """A run that says that it goes on with the first one."""

    def change(audited):
        first, second = audited.whole.copy(), audited.again.copy()
        put(SUMMARY, "state", to=changes.get("state", "interrupted"))(first)
        put(SUMMARY, "requested", to={**first.json(SUMMARY)["requested"], **changes.get("before", {})})(first)
        second.files[FLOOR] = changes.get("file", first.files[FLOOR])
        digest = Entry.of(first.files[SUMMARY]).sha256
        cites = {"run": first.run, "sha256": changes.get("sha256", digest)}
        put(SUMMARY, "resumes", to=cites)(second)
        asked = {**first.json(SUMMARY)["requested"], **changes.get("requested", {})}
        put(SUMMARY, "requested", to=asked)(second)
        chosen = [each for each in first.json(SUMMARY)["plan"]["selected"] if each != changes.get("left")]
        put(SUMMARY, "plan", "selected", to=chosen)(second)
        put(SUMMARY, "previous", "sha256", to=digest)(second)
        of(SUMMARY, lambda d: d["findings"][0].update(run=first.run))(second)
        return trees(traced(audited, first, second), audited.tree)

    return change


honest_resumption = _resuming()
resumption_of_less = _resuming(left="promised")
resumption_on_another_model = _resuming(requested={"model": "other.gguf"})
resumption_on_the_backend_of_before = _resuming(before={"backend": None}, requested={"backend": "cpu"})


def _session(audited):
    copy = audited.whole.copy()
    copy.contract = "other-v1"
    put(SUMMARY, "provenance", "argv", to=["refute"])(copy)
    return trees(traced(audited, audited.whole, copy), audited.tree)


def _green_later(audited):
    bundle = audited.again.copy()
    bundle.files[BITS] = audited.whole.files[BITS]
    judgement = {"outcome": "survived", "reason": "", "n": 1, "violations": 0, "point": None}
    judgement |= {"lower": None, "upper": None, "unit": None, "excluded_rate": 0.1}
    of(BITS, lambda d: d.update(verdict="survived", judgement=judgement))(bundle)
    of(SUMMARY, lambda d: d["findings"].append({**d["findings"][0], "falsifier": "bits", "file": BITS}))(
        bundle
    )
    return trees(traced(audited, audited.whole, bundle), audited.tree)


_FILE = "audited-v1/run/floor.json"
OF_TREES: dict[str, Callable[[Audited], Trees]] = {
    "tree-readable": lambda audited: trees([], audited.tree, missing="no such folder"),
    "tree-tidy": lambda audited: trees([], audited.tree, stray=["notes.txt"]),
    "history-kept": _history(lost=(Change(_FILE, "deleted", "c" * 40),)),
    "history-unedited": _history(unsaved=(Change(_FILE, "edited", ""),)),
    "history-steady": _history(restored=(Change(_FILE, "changed and put back", "c" * 40),)),
    "history-whole": _history(shallow=True),
    "history-there": _history(unknown="not a git repository"),
    "history-complete": _history(untracked=("audited-v1/run",)),
    "run-once": _elsewhere,
    "chain-kept": _without,
    "chain-single": _with(put(SUMMARY, "previous", to=None)),
    "resumed-kept": _resuming(sha256="0" * 64),
    "resumed-same": _resuming(file=b"{}\n"),
    "session-same": _session,
    "times-own": _repeated,
    "attempts-final": _green_later,
}
