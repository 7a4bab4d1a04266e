"""Rules of files: they are what the listing says, and names agree."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from refute.audit.rule import ERROR, NOTE, WARNING, Remark, Rule, rule
from refute.audit.subject import Document, Subject
from refute.reader import SIGNATURE, SUMMARY, VERSION, listing


@rule(ERROR, "A run is a folder, not a link to one.", "What it points to can change without a trace.")
def folder_link(subject: Subject) -> Iterable[Remark]:
    if subject.folder.link:
        yield Remark("", "", "a symbolic link", "a folder")


@rule(ERROR, "A run's folder can be listed.", "What cannot be read cannot be judged.")
def folder_readable(subject: Subject) -> Iterable[Remark]:
    if subject.folder.error:
        yield Remark("", "", subject.folder.error, "a folder that can be read")


@rule(ERROR, "A run holds plain files only.", "A link or a folder holds what no digest covers.")
def file_plain(subject: Subject) -> Iterable[Remark]:
    for name, entry in subject.folder.entries.items():
        if entry.kind != "file":
            yield Remark(name, "", "a link" if entry.kind == "link" else "no file", "a plain file")


@rule(ERROR, "Every file can be read, and is of an honest size.", "What cannot be read cannot be judged.")
def file_readable(subject: Subject) -> Iterable[Remark]:
    for name, entry in subject.folder.entries.items():
        if entry.error:
            yield Remark(name, "", entry.error, "a file that can be read")


@rule(ERROR, "Findings have a listing.", "Without it, findings can be taken away.")
def listing_there(subject: Subject) -> Iterable[Remark]:
    # A run killed while it was opened has a contract and nothing else; with findings, someone took the list.
    entries = subject.folder.entries
    if SUMMARY not in entries and any(name.endswith(".json") and name[0] != "." for name in entries):
        yield Remark(SUMMARY, "", "no file", "the list of findings")


def _documents(subject: Subject) -> Iterator[tuple[str, str, Document]]:
    if subject.listing is not None:
        yield SUMMARY, "findings", subject.listing
    for filed in subject.filed:
        if filed.document is not None:
            yield filed.file, "finding", filed.document


@rule(ERROR, "JSON can be read in one way only.", "A key that is there twice says two things to two readers.")
def json_strict(subject: Subject) -> Iterable[Remark]:
    for name, _, document in _documents(subject):
        if document.broken:
            yield Remark(name, "", document.broken, "strict JSON")


@rule(
    ERROR,
    "The schema is one that this version knows.",
    "Another one may mean something else by the same names.",
)
def schema_known(subject: Subject) -> Iterable[Remark]:
    for name, schema, document in _documents(subject):
        for pointer, message in document.faults:
            if pointer == "/schema":
                yield Remark(name, pointer, message, f"urn:refute:schema:{schema}:{VERSION}")


@rule(ERROR, "Every field has the form that its schema says.", "No run of refute writes any other.")
def schema_form(subject: Subject) -> Iterable[Remark]:
    for name, schema, document in _documents(subject):
        for pointer, message in document.faults[:5]:
            if pointer != "/schema":
                yield Remark(name, pointer, message, f"what the {schema} schema says")
    for filed in subject.filed:
        if filed.finding is None and filed.document is not None and filed.document.sound:
            yield Remark(filed.file, "", "fields that contradict each other", "a finding of this version")


def entries_of(subject: Subject) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every entry of the listing that names a file, with its pointer."""
    if subject.summary is not None:
        for key in ("files", "findings"):
            for index, entry in enumerate(subject.summary[key]):
                yield f"/{key}/{index}", entry


@rule(ERROR, "Every file is listed.", "It was put there after the run was sealed.")
def file_listed(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None:
        return
    names = {name for name, entry in subject.folder.entries.items() if entry.kind == "file"}
    listed = {SUMMARY, SIGNATURE, *(entry["file"] for _, entry in entries_of(subject))}
    if subject.summary["state"] == "running":  # killed between a rename and the next list
        plan = subject.summary["plan"]
        idle = {f"{name}.json" for name in plan["falsifiers"] if name not in plan["selected"]}
        listed |= names - idle
    for name in sorted(names - listed):
        yield Remark(name, "", "a file", "nothing: it is not listed")


@rule(ERROR, "Every listed file is there.", "It was taken away after the run was sealed.")
def file_there(subject: Subject) -> Iterable[Remark]:
    for _, entry in entries_of(subject):
        if entry["file"] not in subject.folder.entries:
            yield Remark(entry["file"], "", "no file", f"{entry['bytes']} bytes, as listed")


@rule(ERROR, "Every file has the size that was listed.", "It was changed after it was listed.")
def file_bytes(subject: Subject) -> Iterable[Remark]:
    for pointer, entry in entries_of(subject):
        data = subject.folder.file(entry["file"])
        if data is not None and len(data) != entry["bytes"]:
            found = f"{len(data)} bytes of {entry['file']}"
            yield Remark(SUMMARY, f"{pointer}/bytes", found, f"{entry['bytes']}, as listed")


@rule(ERROR, "Every file has the sha256 that was listed.", "It was changed after it was listed.")
def file_sha256(subject: Subject) -> Iterable[Remark]:
    for pointer, entry in entries_of(subject):
        there = subject.folder.entries.get(entry["file"])
        if there is not None and there.data is not None and there.sha256 != entry["sha256"]:
            found = f"{there.sha256} of {entry['file']}"
            yield Remark(SUMMARY, f"{pointer}/sha256", found, f"{entry['sha256']}, as listed")


@rule(ERROR, "Every file of lines has as many as were listed.", "It was changed after it was listed.")
def file_rows(subject: Subject) -> Iterable[Remark]:
    for pointer, entry in entries_of(subject):
        data = subject.folder.file(entry["file"])
        if data is not None and pointer.startswith("/files"):
            found, said = listing(entry["file"], data).get("rows"), entry.get("rows")
            if found != said:
                yield Remark(SUMMARY, f"{pointer}/rows", f"{found} of {entry['file']}", f"{said}, as listed")


@rule(ERROR, "Every file is listed once.", "Two entries can say two things of it.")
def listed_once(subject: Subject) -> Iterable[Remark]:
    seen: set[str] = set()
    for pointer, entry in entries_of(subject):
        if entry["file"] in seen:
            yield Remark(SUMMARY, pointer, f"{entry['file']} again", "each file once")
        seen.add(entry["file"])


@rule(
    ERROR,
    "What was found is what was planned, and all of it where the run is complete.",
    "A finding was taken away, or comes from elsewhere.",
)
def listed_plan(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None:
        return
    plan = subject.summary["plan"]
    listed = [entry["falsifier"] for entry in subject.summary["findings"]]
    odd = sorted(set(listed) - set(plan["selected"]))
    if odd:
        yield Remark(SUMMARY, "/findings", f"{', '.join(odd)}, not selected", "selected falsifiers")
    undeclared = sorted(set(plan["selected"]) - set(plan["falsifiers"]))
    if undeclared:
        yield Remark(SUMMARY, "/plan/selected", ", ".join(undeclared), "falsifiers of the contract")
    missing = [each for each in plan["selected"] if each not in listed]
    if subject.summary["state"] == "complete" and missing:
        yield Remark(SUMMARY, "/findings", f"none of {', '.join(missing)}", "every selected falsifier")


@rule(
    ERROR,
    "A finding lies in the file that bears its falsifier's name.",
    "Another one's samples would speak for it.",
)
def listed_names(subject: Subject) -> Iterable[Remark]:
    for filed in subject.filed:
        name = f"{filed.entry['falsifier']}.json"
        if filed.file != name:
            yield Remark(SUMMARY, f"/findings/{filed.index}/file", filed.file, name)


@rule(ERROR, "A finding's verdict is the one that was listed.", "One of them was changed.")
def listed_verdict(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        if filed.index is not None and filed.entry["verdict"] != finding.verdict:
            expected = f"{filed.entry['verdict']}, as listed"
            yield Remark(filed.file, "/verdict", finding.verdict, expected)


@rule(ERROR, "A run and its findings bear the name of their folder.", "It was copied from elsewhere.")
def run_name(subject: Subject) -> Iterable[Remark]:
    if subject.summary is not None and subject.summary["run"] != subject.folder.run:
        yield Remark(SUMMARY, "/run", subject.summary["run"], f"{subject.folder.run}, its folder")
    for filed, finding in subject.findings:
        owner = filed.entry.get("run", subject.folder.run)
        late = filed.index is None and subject.summary is not None and subject.summary["resumes"] is not None
        if finding.run != owner and not late:
            yield Remark(filed.file, "/run", finding.run, f"{owner}, its run")


@rule(ERROR, "A finding is of the falsifier that it is listed for.", "Another one's samples speak for it.")
def finding_name(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        if finding.falsifier != filed.entry["falsifier"]:
            yield Remark(filed.file, "/falsifier", finding.falsifier, filed.entry["falsifier"])


@rule(ERROR, "Only a run that resumes another has findings of it.", "They come from elsewhere.")
def taken_over(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None:
        return
    resumes = subject.summary["resumes"]
    for filed in subject.filed:
        if filed.taken_over and (resumes is None or filed.entry["run"] == subject.folder.run):
            expected = "nothing: this run resumes none" if resumes is None else "another run"
            yield Remark(SUMMARY, f"/findings/{filed.index}/run", filed.entry["run"], expected)


@rule(WARNING, "A run is sealed.", "It still goes on, or was killed; what it did not finish is unobserved.")
def run_sealed(subject: Subject) -> Iterable[Remark]:
    if subject.summary is not None and subject.summary["state"] == "running":
        yield Remark(SUMMARY, "/state", "running", "complete, or interrupted")
    if subject.listing is None and not subject.folder.error and not subject.folder.link:
        yield Remark("", "", f"no {SUMMARY}: killed while it was opened", "a sealed run")


@rule(NOTE, "A run attacked every falsifier of its contract.", "The others are unobserved in it.")
def run_whole(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None:
        return
    plan = subject.summary["plan"]
    if subject.summary["state"] == "interrupted":
        yield Remark(SUMMARY, "/state", "interrupted", "complete")
    left = [name for name in plan["falsifiers"] if name not in plan["selected"]]
    if left:
        yield Remark(SUMMARY, "/plan/selected", f"all but {', '.join(left)}", "every falsifier")


RULES: tuple[Rule[Subject], ...] = (
    folder_link,
    folder_readable,
    file_plain,
    file_readable,
    listing_there,
    json_strict,
    schema_known,
    schema_form,
    file_listed,
    file_there,
    file_bytes,
    file_sha256,
    file_rows,
    listed_once,
    listed_plan,
    listed_names,
    listed_verdict,
    run_name,
    finding_name,
    taken_over,
    run_sealed,
    run_whole,
)
