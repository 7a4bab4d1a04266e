"""Rules of signatures: an envelope is of the listing beside it, and by whom it has to be."""

from collections.abc import Iterable

from refute.audit.rule import ERROR, NOTE, Remark, Rule, rule
from refute.audit.subject import Subject
from refute.reader import SIGNATURE, SUMMARY
from refute.signing import SigningError, signed, verified


@rule(
    ERROR, "A signature is of the listing beside it, byte for byte.", "One of them was changed, or exchanged."
)
def signature_form(subject: Subject) -> Iterable[Remark]:
    envelope, summary = subject.folder.file(SIGNATURE), subject.folder.file(SUMMARY)
    if envelope is not None:
        try:
            signed(envelope, summary or b"", SIGNATURE)
        except SigningError as error:
            yield Remark(
                SIGNATURE, "", str(error).removeprefix(f"{SIGNATURE}: "), f"an envelope over {SUMMARY}"
            )


@rule(
    ERROR,
    "Where keys are known, one of them signed what is signed; where --keys gives them, every sealed run.",
    "Anybody can have written it.",
)
def signature_trusted(subject: Subject) -> Iterable[Remark]:
    keys, envelope = subject.here.keys, subject.folder.file(SIGNATURE)
    if not keys or subject.summary is None or subject.summary["state"] == "running":
        return
    if envelope is None:
        if not subject.here.unsigned:
            yield Remark(SIGNATURE, "", "no signature", "one by a key that was given")
        return
    try:
        verified(envelope, subject.folder.file(SUMMARY) or b"", keys, SIGNATURE)
    except SigningError as error:
        found = str(error).removeprefix(f"{SIGNATURE}: ")
        yield Remark(SIGNATURE, "", found, "a signature that holds, by a key that is known")


@rule(NOTE, "A signature was checked.", "No key is known to check it with; it says nothing.")
def signature_checked(subject: Subject) -> Iterable[Remark]:
    if subject.folder.file(SIGNATURE) is not None and not subject.here.keys:
        yield Remark(
            SIGNATURE, "", "a signature, and no key to check it with", "a key: --keys, [tool.refute.keys]"
        )


RULES: tuple[Rule[Subject], ...] = (signature_form, signature_trusted, signature_checked)
