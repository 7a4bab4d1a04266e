"""Signed records: a DSSE envelope with ed25519 signatures over the bytes of `findings.json`, made offline.

What is signed is bytes, never a parsed document: every other file of a run is bound by its digest in there. A
signature says that the holder of a key had these bytes in hand. It does not say that they are true.
"""

import base64
import binascii
import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refute.reader import SIGNATURE, SUMMARY, read_run
from refute.record import FileSystem, place
from refute.strict_json import StrictJsonError, dump_strict, load_strict

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, Key

PAYLOAD_TYPE = "application/vnd.refute.findings+json"
_NEEDS = ("securesystemslib", "cryptography")
_INSTALL = "signatures need securesystemslib and cryptography: pip install 'refute[sign]'"


class SigningError(Exception):
    """What cannot be signed, or is not signed as it should be; one sentence that says what and where."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are checked with. id: its digest, as envelopes name it."""

    id: str
    key: "Key"


def available() -> bool:
    """Whether what signatures need is installed."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDS)


def keygen(path: Path) -> PublicKey:
    """Make a key pair: the private key at the path, for its owner only, the public one beside it as `.pub`.

    Neither is ever written over. Raises `SigningError`.
    """
    _require()
    from cryptography.hazmat.primitives import serialization as forms  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    public = key.public_key().public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)
    beside = path.with_name(f"{path.name}.pub")
    for file, content, mode in ((path, private, 0o600), (beside, public, 0o644)):
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        except OSError as error:
            why = "it is there already; keys are never written over" if file.exists() else error.strerror
            raise SigningError(f"{file}: {why}") from None
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
    return load_public_key(beside)


def load_signer(path: Path) -> "CryptoSigner":
    """Read a private key. Raises `SigningError`, which never repeats what is in the file."""
    _require()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415
    from securesystemslib.signer import CryptoSigner  # noqa: PLC0415

    data = _bytes_of(path)
    try:
        key = load_pem_private_key(data, password=None)
    except Exception:  # noqa: BLE001 (it refuses in many ways)
        raise SigningError(f"{path}: not a private key; expected what `refute keygen` writes") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningError(f"{path}: a {type(key).__name__}, expected an ed25519 key")
    return CryptoSigner(key)


def load_public_key(path: Path) -> PublicKey:
    """Read a public key. Raises `SigningError`."""
    _require()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415
    from securesystemslib.signer import SSlibKey  # noqa: PLC0415

    data = _bytes_of(path)
    try:
        public = load_pem_public_key(data)
    except Exception:  # noqa: BLE001 (it refuses in many ways)
        raise SigningError(f"{path}: not a public key; expected the .pub file of `refute keygen`") from None
    if not isinstance(public, Ed25519PublicKey):
        raise SigningError(f"{path}: a {type(public).__name__}, expected an ed25519 key")
    key = SSlibKey.from_crypto(public)
    return PublicKey(key.keyid, key)


def sign(run: Path, signer: "CryptoSigner", files: FileSystem | None = None) -> str:
    """Sign a sealed run that reads without a problem; return the key's id. Raises `SigningError`.

    What others signed before stays. Whoever signs twice leaves one signature.
    """
    from securesystemslib.dsse import Envelope  # noqa: PLC0415
    from securesystemslib.signer import Signature  # noqa: PLC0415

    payload = _bytes_of(run / SUMMARY)
    read = read_run(run)
    if read.problems or not read.summary:
        problem = next(iter(read.problems), "nothing that can be read is there")
        raise SigningError(f"{run}: not whole, and not signed: {problem}")
    if read.summary["state"] == "running":
        raise SigningError(f"{run}: not sealed; a run is signed when it has ended")
    before: Mapping[str, bytes] = {}
    if (run / SIGNATURE).exists():
        before = signed(_bytes_of(run / SIGNATURE), payload, str(run / SIGNATURE)).signatures
    others = {id: Signature(id, made.hex()) for id, made in before.items() if id != signer.public_key.keyid}
    envelope = Envelope(payload, PAYLOAD_TYPE, others)
    envelope.sign(signer)
    place(files or FileSystem(), run / SIGNATURE, dump_strict(envelope.to_dict()))
    return str(signer.public_key.keyid)


@dataclass(frozen=True, slots=True)
class Signed:
    """An envelope over the findings.json beside it. signatures: by their key's id; none is verified yet."""

    payload: bytes
    signatures: Mapping[str, bytes]


def signed(envelope: bytes, summary: bytes, where: str) -> Signed:
    """Read an envelope, and compare it with the findings.json beside it; no key is needed, and no library.

    where: the envelope's path, for messages. Raises `SigningError` for one that is of anything else.
    """
    try:
        document = load_strict(envelope)
    except StrictJsonError as error:
        raise SigningError(f"{where}: {error}") from None
    fields = _fields(document, ("payload", "payloadType", "signatures"), where)
    if fields["payloadType"] != PAYLOAD_TYPE:
        raise SigningError(f"{where}: of a {fields['payloadType']!r}, expected {PAYLOAD_TYPE!r}")
    payload = _decoded(fields["payload"], where)
    if payload != summary:
        raise SigningError(f"{where}: of other bytes than {SUMMARY} beside it")
    if not isinstance(fields["signatures"], list):
        raise SigningError(f"{where}: signatures that are no list")
    signatures = {}
    for entry in fields["signatures"]:
        told = _fields(entry, ("keyid", "sig"), where)
        if not isinstance(told["keyid"], str) or told["keyid"] in signatures:
            raise SigningError(f"{where}: a key's id that is no text, or is there twice")
        signatures[told["keyid"]] = _decoded(told["sig"], where)
    return Signed(payload, signatures)


def verified(envelope: bytes, summary: bytes, keys: Sequence[PublicKey], where: str) -> tuple[str, ...]:
    """Return the ids of the keys, of these, that signed a listing. Raises `SigningError` where none did.

    A wrong signature of one of them is an error, too; those of other keys say nothing.
    """
    _require()
    from securesystemslib.dsse import Envelope  # noqa: PLC0415
    from securesystemslib.exceptions import UnverifiedSignatureError  # noqa: PLC0415
    from securesystemslib.signer import Signature  # noqa: PLC0415

    found = signed(envelope, summary, where)
    message = Envelope(found.payload, PAYLOAD_TYPE, {}).pae()
    known = {each.id: each.key for each in keys}
    for id, made in found.signatures.items():
        if id in known:
            try:
                known[id].verify_signature(Signature(id, made.hex()), message)
            except UnverifiedSignatureError:
                raise SigningError(f"{where}: the signature of key {_short(id)} is wrong") from None
    if not known.keys() & found.signatures.keys():
        who = ", ".join(map(_short, found.signatures)) or "nobody"
        raise SigningError(f"{where}: signed by {who}, by no key that is trusted here")
    return tuple(id for id in found.signatures if id in known)


def verify(run: Path, keys: Sequence[PublicKey]) -> tuple[str, ...]:
    """Do the same for the folder of a run, which must have an envelope."""
    return verified(_bytes_of(run / SIGNATURE), _bytes_of(run / SUMMARY), keys, str(run / SIGNATURE))


def _fields(document: Any, names: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(document, dict) or set(document) != set(names):
        raise SigningError(f"{where}: not a DSSE envelope; expected {', '.join(names)}, and nothing else")
    return document


def _decoded(text: Any, where: str) -> bytes:
    """Decode base64 that was written in the one way that there is."""
    try:
        data = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise SigningError(f"{where}: not base64 where it should be") from None
    if base64.b64encode(data).decode() != text:
        raise SigningError(f"{where}: base64 that is not written as it should be")
    return data


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SigningError(f"{path}: {error.strerror}") from None


def _short(id: str) -> str:
    return f"{id[:16]}…" if len(id) > 16 else id


def _require() -> None:
    if not available():
        raise SigningError(_INSTALL)
