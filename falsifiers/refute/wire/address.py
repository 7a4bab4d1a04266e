"""What people type to name a server, and its key: checked before anything is sent, and never repeated."""

import re
from urllib.parse import urlsplit, urlunsplit

_EXPECTED = "expected a URL such as http://127.0.0.1:8080/v1"
_SENDABLE = re.compile(r"[!-~]+")  # what a request line and a header can hold


def bases_of(url: str) -> tuple[str, ...]:
    """Return the URLs that routes may be appended to, the likelier first: `/v1` may be left out.

    Raises ValueError with a sentence.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:  # whose sentences repeat what may be a password
        raise ValueError(f"the endpoint's host or port cannot be read; {_EXPECTED}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("the endpoint's URL holds a name or a password; expected a key: --api-key-env VAR")
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"the endpoint is no http or https URL; {_EXPECTED}")
    if parts.query or parts.fragment:
        raise ValueError(f"the endpoint's URL has a query or a fragment; {_EXPECTED}")
    path = parts.path.rstrip("/")
    if not _SENDABLE.fullmatch(host + path):
        raise ValueError(f"the endpoint's URL has characters that must be escaped there; {_EXPECTED}")
    where = (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")
    as_typed = urlunsplit((parts.scheme, where, path, "", ""))
    if path.endswith("/v1"):
        return (as_typed,)
    return (as_typed, f"{as_typed}/v1") if path else (f"{as_typed}/v1", as_typed)


def check_key(key: str, where: str) -> None:
    """Refuse a key that no header can hold. where: who gave it. Raises ValueError with a sentence."""
    if not _SENDABLE.fullmatch(key):
        raise ValueError(f"{where}: the key is empty, or has characters that no header can hold")
