"""Rules of provenance: which engine, model, host and code; what is stale; what should not be in a record."""

import re
from collections.abc import Iterable, Mapping, Sequence

from refute.attempts import BUNDLED
from refute.audit.rule import ERROR, NOTE, WARNING, Remark, Rule, rule
from refute.audit.subject import Subject
from refute.contract import Contract
from refute.counterexample import SUFFIX, Counterexample
from refute.host import testbed as fingerprint
from refute.reader import SUMMARY
from refute.recordable import Requested, settings_of
from refute.redaction import REDACTED, redact, sentence

_FAKE = "refute-fake"
_OPTIONS = {  # what was requested -> the options of refute and of pytest that say so
    "seed": ("--seed", "--refute-seed"),
    "keyword": ("-k",),
    "backend": ("--backend", "--refute-backend"),
    "target": ("--target", "--refute-target"),
}
_SECRETS = {
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "an API key": re.compile(
        rb"\b(?:sk-[\w-]{16,}|hf_\w{16,}|gh[pousr]_\w{20,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16})"
    ),
    "a signed token": re.compile(rb"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
    "a bearer token": re.compile(
        rb"(?i)\bauthorization[\"']?\s*[:=]\s*[\"']?bearer\s+(?!<redacted>)[\w.~+/-]{8,}"
    ),
    "a password in an address": re.compile(rb"://[^/\s:@\"']+:(?!<redacted>)[^/\s:@\"']+@"),
}


@rule(
    ERROR, "The testbed is the digest of the host that is described.", "The host was changed after the run."
)
def testbed_derived(subject: Subject) -> Iterable[Remark]:
    if subject.summary is not None:
        provenance = subject.summary["provenance"]
        expected = fingerprint(provenance["facts"])
        if provenance["testbed"] != expected:
            yield Remark(SUMMARY, "/provenance/testbed", provenance["testbed"], f"{expected}, of this host")


@rule(ERROR, "A finding's seed is the run's.", "Its cases do not follow from it.")
def seed_same(subject: Subject) -> Iterable[Remark]:
    if subject.summary is not None:
        seeds = subject.summary["provenance"]["seeds"]
        seed = seeds.get("run")
        if set(seeds) != {"run"}:
            yield Remark(
                SUMMARY, "/provenance/seeds", ", ".join(sorted(seeds)), "that of the run, and no other"
            )
        for filed, finding in subject.findings:
            if finding.seed != seed:
                yield Remark(filed.file, "/seed", finding.seed, f"{seed}, the run's")


@rule(
    ERROR,
    "Settings repeat what was asked for and what the engine said of itself.",
    "The engine was told, or did, something else.",
)
def settings_repeat(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None:
        return
    requested = Requested(**subject.summary["requested"])
    for filed, finding in subject.findings:
        if filed.taken_over:
            continue
        expected = {each.name: each for each in settings_of(requested, finding.target, finding.seed)}
        for index, setting in enumerate(finding.settings):
            known = expected.pop(setting.name, None)
            for key in ("requested", "effective"):
                found, wanted = getattr(setting, key), None if known is None else getattr(known, key)
                if found != wanted:
                    yield Remark(filed.file, f"/settings/{index}/{key}", found, wanted)
        for name in expected:
            yield Remark(filed.file, "/settings", f"no {name}", "every setting that is known")


@rule(ERROR, "The run's seed and model are those that were asked for.", "Something else was attacked.")
def requested_done(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None:
        return
    requested, seeds = subject.summary["requested"], subject.summary["provenance"]["seeds"]
    argv = subject.summary["provenance"]["argv"]
    for key, names in _OPTIONS.items():
        typed = _typed(argv, names)
        if typed is not None and str(requested[key]) != typed:
            yield Remark(SUMMARY, f"/requested/{key}", requested[key], f"{typed}, by the command line")
    served = [key for key in ("endpoint", "model_name", "dialect") if requested[key] is not None]
    if served and requested["target"] != "openai":
        yield Remark(SUMMARY, f"/requested/{served[0]}", requested[served[0]], "null: no endpoint was named")
    if requested["seed"] is not None and seeds.get("run") != requested["seed"]:
        yield Remark(SUMMARY, "/provenance/seeds/run", seeds.get("run"), f"{requested['seed']}, as requested")
    for filed, finding in subject.findings:
        for key, name in (("target", "name"), ("model", "model_path")):
            found = finding.target.get(name)
            if requested[key] is not None and found not in (None, requested[key]):
                yield Remark(filed.file, f"/target/{name}", found, f"{requested[key]}, as requested")


def _typed(argv: Sequence[str], names: Sequence[str]) -> str | None:
    """The last value that a command line gives an option; None where it does not."""
    typed = None
    for index, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name in names and equals:
            typed = value
        elif argument in names and index + 1 < len(argv):
            typed = argv[index + 1]
    return typed


@rule(ERROR, "What is said of git and of the host does not contradict itself.", "A part of it was changed.")
def facts_agree(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None:
        return
    git, facts = subject.summary["provenance"]["git"], subject.summary["provenance"]["facts"]
    at = "/provenance/git"
    if (git["commit"] is None) != (git["reason"] is not None):
        yield Remark(
            SUMMARY, f"{at}/reason", git["reason"], "a reason where there is no commit, and only there"
        )
    if (git["commit"] is None) != (git["dirty"] is None):
        yield Remark(SUMMARY, f"{at}/dirty", git["dirty"], "known where the commit is, and only there")
    if bool(git["dirty"]) != (git["diff_sha256"] is not None):
        expected = "the digest of changes, where there are any"
        yield Remark(SUMMARY, f"{at}/diff_sha256", git["diff_sha256"], expected)
    usable, logical = facts["cores_usable"]["value"], facts["logical_cpus"]["value"]
    if usable is not None and logical is not None and not 0 < usable <= logical:
        pointer = "/provenance/facts/cores_usable/value"
        yield Remark(SUMMARY, pointer, usable, f"at least 1 and at most {logical}")


@rule(ERROR, "One run attacks one engine on one model.", "A finding comes from elsewhere.")
def target_same(subject: Subject) -> Iterable[Remark]:
    first: tuple[str, Mapping[str, object]] | None = None
    for filed, finding in subject.findings:
        if not finding.target or filed.taken_over:
            continue
        if first is None:
            first = filed.file, finding.target
        for key, value in finding.target.items():
            if value != first[1][key]:
                yield Remark(filed.file, f"/target/{key}", value, f"{first[1][key]}, as in {first[0]}")


@rule(ERROR, "A simulated engine says that it is one.", "A simulation would pass for evidence of an engine.")
def target_simulated(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        target = finding.target
        if target and ("fake" in (target["name"], target["engine"]) or target["engine"] == _FAKE):
            if not target["simulated"]:
                yield Remark(filed.file, "/target/simulated", False, f"true of {target['engine']}")
        elif target and target["simulated"] and target["model_sha256"] is not None:
            yield Remark(filed.file, "/target/model_sha256", target["model_sha256"], "null of a simulation")


@rule(
    ERROR,
    "A model file that counts has the architecture that its contract names.",
    "One of its names was changed.",
)
def model_architecture(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        if (
            subject.contract is None
            or finding.target.get("model_sha256") not in subject.contract.model.sha256
        ):
            continue
        expected = subject.contract.model.architecture
        if finding.target["architecture"] != expected:
            yield Remark(filed.file, "/target/architecture", finding.target["architecture"], expected)


@rule(ERROR, "Layers are mixtures of experts or dense, and together all.", "One of the counts was changed.")
def model_layers(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        target = finding.target
        if target and target["layers"] and target["layers"] != target["moe_layers"] + target["dense_layers"]:
            found = f"{target['layers']} layers"
            expected = f"{target['moe_layers']} + {target['dense_layers']}"
            yield Remark(filed.file, "/target/layers", found, expected)


@rule(
    ERROR,
    "Versions that are told twice are the same.",
    "One of them was changed.",
)
def versions_agree(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None:
        return
    provenance = subject.summary["provenance"]
    packages, harness = provenance["packages"], provenance["harness"]
    if harness["name"] != "refute":
        yield Remark(SUMMARY, "/provenance/harness/name", harness["name"], "refute")
    if harness["version"] != packages.get("refute"):
        expected = f"{packages.get('refute')}, as among the packages"
        yield Remark(SUMMARY, "/provenance/harness/version", harness["version"], expected)
    for filed, finding in subject.findings:
        said = finding.target.get("settings", {}).get("numpy")
        if said is not None and said != packages.get("numpy"):
            expected = f"{packages.get('numpy')}, as among the packages"
            yield Remark(filed.file, "/target/settings/numpy", said, expected)


@rule(
    ERROR,
    "A counterexample's own file is the counterexample of its finding.",
    "What `refute replay` runs is not what refuted.",
)
def counterexample_file(subject: Subject) -> Iterable[Remark]:
    expected = {}
    for _, finding in subject.findings:
        counterexample = Counterexample.of(finding)
        if counterexample is not None:
            expected[counterexample.file] = counterexample.to_bytes(), finding is subject.unfinished
    for name in subject.folder.entries:
        if name.endswith(SUFFIX) and name not in expected and subject.summary is not None:
            yield Remark(name, "", "a counterexample", "none: its finding has none")
    for name, (data, may_lack) in expected.items():
        there = subject.folder.file(name)
        if there != data and not (may_lack and there is None):
            yield Remark(name, "", "no such file, or another case", "the counterexample of its finding")


@rule(ERROR, "No secret is in any file.", "Whoever reads the record can use it.")
def secrets_absent(subject: Subject) -> Iterable[Remark]:
    for name, entry in subject.folder.entries.items():
        for what, pattern in _SECRETS.items():
            found = pattern.search(entry.data or b"")
            if found is not None:
                line = (entry.data or b"")[: found.start()].count(b"\n") + 1
                yield Remark(name, "", f"{what} in line {line}", "<redacted>")


@rule(
    ERROR,
    "Command line and sentences hold nothing that looks like a secret.",
    "Whoever reads the record can use it.",
)
def secrets_redacted(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None:
        return
    argv = subject.summary["provenance"]["argv"]
    for index, (found, clean) in enumerate(zip(argv, redact(argv), strict=True)):
        if clean.count(REDACTED) > found.count(REDACTED):
            yield Remark(SUMMARY, f"/provenance/argv/{index}", "what looks like a secret", clean)
    for filed, finding in subject.findings:
        clean = sentence(finding.reason)
        if clean != finding.reason:
            yield Remark(filed.file, "/reason", "what looks like a secret", clean)


@rule(WARNING, "The code was committed as it ran.", "Nobody else can run what ran.")
def code_committed(subject: Subject) -> Iterable[Remark]:
    if subject.summary is not None and subject.summary["provenance"]["git"]["dirty"]:
        yield Remark(SUMMARY, "/provenance/git/dirty", True, "a working tree without changes")


@rule(NOTE, "The commit is known.", "Nobody can tell which code is to be run again.")
def commit_known(subject: Subject) -> Iterable[Remark]:
    if subject.summary is not None and subject.summary["provenance"]["git"]["commit"] is None:
        reason = subject.summary["provenance"]["git"]["reason"] or "null"
        yield Remark(SUMMARY, "/provenance/git/commit", reason, "a commit")


@rule(NOTE, "The contract's meaning is today's.", "The evidence is stale.")
def contract_current(subject: Subject) -> Iterable[Remark]:
    if subject.here.contracts is None or subject.contract is None:
        return
    today = subject.here.contracts.get(subject.contract.id)
    if today is None:
        yield Remark("contract.yaml", "/id", subject.contract.id, "a contract that is here")
    elif today.semantic_sha256 != subject.contract.semantic_sha256:
        expected = f"the meaning of {today.version}, which is here"
        yield Remark("contract.yaml", "", f"the meaning of {subject.contract.version}", expected)


@rule(
    WARNING,
    "A contract that changed its meaning, or a claim's sentence, changed its version.",
    "The bar was moved without saying so.",
)
def contract_versioned(subject: Subject) -> Iterable[Remark]:
    today = (subject.here.contracts or {}).get(subject.folder.contract)
    if today is None or subject.contract is None or today.version != subject.contract.version:
        return
    if today.semantic_sha256 != subject.contract.semantic_sha256:
        yield Remark("contract.yaml", "/version", f"{today.version} with another meaning", "a new version")
    elif _sentences(today) != _sentences(subject.contract):
        yield Remark("contract.yaml", "/version", f"{today.version} with other claims", "a new version")


def _sentences(contract: Contract) -> dict[str, tuple[str, str | None]]:
    return {each.id: (each.claim, each.alias) for each in contract.falsifiers}


@rule(NOTE, "The engine's code is today's.", "The evidence is stale.")
def engine_current(subject: Subject) -> Iterable[Remark]:
    here = subject.here.present.engine_digest
    builds = {
        str(finding.target["engine_digest"])
        for _, finding in subject.findings
        if finding.target.get("engine") == BUNDLED
    }
    for build in sorted(builds - {here}) if here is not None else ():
        yield Remark("", "", f"{BUNDLED} {build[:12]}", f"{here[:12] if here else here}, which is here")


@rule(NOTE, "The harness is today's.", "What it attacks with may have changed.")
def harness_current(subject: Subject) -> Iterable[Remark]:
    here = subject.here.harness
    if subject.summary is not None and here is not None:
        found = subject.summary["provenance"]["harness"]["digest"]
        if found != here:
            yield Remark(SUMMARY, "/provenance/harness/digest", found[:12], f"{here[:12]}, which is here")


RULES: tuple[Rule[Subject], ...] = (
    testbed_derived,
    seed_same,
    settings_repeat,
    requested_done,
    facts_agree,
    target_same,
    target_simulated,
    model_architecture,
    model_layers,
    versions_agree,
    counterexample_file,
    secrets_absent,
    secrets_redacted,
    code_committed,
    commit_known,
    contract_current,
    contract_versioned,
    engine_current,
    harness_current,
)
