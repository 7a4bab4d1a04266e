"""`refute keygen` and `refute sign`: keys for signatures, and signatures of records; all of it offline."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from refute.commands.shared import Refused
from refute.report.words import shown
from refute.verdict import Exit

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

    from refute.commands.shared import Commands


def add(commands: "Commands") -> None:
    """Add the commands."""
    key = commands.add_parser("keygen", help="make a key pair to sign records with (ed25519)")
    key.add_argument(
        "file", type=Path, metavar="FILE", help="the private key, to be kept; FILE.pub is the public one"
    )
    key.set_defaults(execute=_keygen)
    sign = commands.add_parser("sign", help="sign sealed runs: a DSSE envelope beside findings.json")
    sign.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="evidence/CONTRACT/RUN")
    sign.add_argument("--key", type=Path, required=True, metavar="FILE", help="the private key")
    sign.set_defaults(execute=_sign)


def _keygen(arguments: argparse.Namespace) -> Exit:
    from refute.signing import SigningError, keygen

    try:
        public = keygen(arguments.file)
    except SigningError as error:
        raise Refused(Exit.USAGE, f"refute: {error}") from None
    print(f"private  {shown(arguments.file)} (keep it to yourself; it is not encrypted)")
    print(f"public   {shown(arguments.file)}.pub (give it to whoever checks your records)")
    print(f"id       {public.id}")
    return Exit.OK


def _sign(arguments: argparse.Namespace) -> Exit:
    signer = signer_of(arguments.key)
    for run in arguments.runs:
        print(f"signed  {shown(run)} by {signed_by(run, signer)}")
    return Exit.OK


def signer_of(key: Path) -> "CryptoSigner":
    """Read a private key. Raises `Refused`."""
    from refute.signing import SigningError, load_signer

    try:
        return load_signer(key)
    except SigningError as error:
        raise Refused(Exit.USAGE, f"refute: {error}") from None


def signed_by(run: Path, signer: "CryptoSigner") -> str:
    """Sign a run; return the key's id as people see it. Raises `Refused` for a run that cannot be signed."""
    from refute.signing import SigningError, sign

    if not run.is_dir():
        what = "is no folder" if run.exists() else "no such folder"
        raise Refused(Exit.USAGE, f"refute: {run}: {what}; expected a run, evidence/CONTRACT/RUN")
    try:
        return sign(run, signer)[:16]
    except SigningError as error:
        raise Refused(Exit.INVALID, f"refute: {error}") from None
