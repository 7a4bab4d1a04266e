"""Plain text for the tokenizer and the text share: the running Python's own library and its pydoc topics.

Only files without a copyright or licence statement of their own are read, so that everything comes under
the licence of Python itself (PSF-2.0). The digest names the exact text, which follows the Python version.
"""

from __future__ import annotations

import hashlib
import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path

_OWN_NOTICE = re.compile(r"copyright|licen[sc]e", re.IGNORECASE)
_SKIPPED_FOLDERS = frozenset(
    {
        "test",
        "tests",
        "idlelib",
        "lib2to3",
        "site-packages",
        "dist-packages",
        "ensurepip",
        "turtledemo",
        "encodings",
        "pydoc_data",
        "__pycache__",
        "config",
    }
)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Source files and documentation topics, in a fixed order."""

    sources: tuple[str, ...]
    topics: tuple[str, ...]
    sha256: str


def load_corpus() -> Corpus:
    """Read the standard library of the interpreter that runs this."""
    root = Path(sysconfig.get_paths()["stdlib"])
    sources = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts[:-1]
        if any(part in _SKIPPED_FOLDERS or part.startswith("config-") for part in parts):
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        if len(text) > 500 and text.isascii() and not _OWN_NOTICE.search(text):
            sources.append(text)
    from pydoc_data.topics import topics  # a dictionary of reStructuredText pages

    pages = [topics[name] for name in sorted(topics) if topics[name].isascii()]
    digest = hashlib.sha256("\0".join(sources + pages).encode()).hexdigest()
    return Corpus(tuple(sources), tuple(pages), digest)
