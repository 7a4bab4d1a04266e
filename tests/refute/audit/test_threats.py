"""The table of threats is what trying gives; only its counts may be a little off on another host."""

import re

from threats import DOCUMENT, document

_COUNTS = re.compile(
    r"^(\| (?:changes|also redoes) [^|]*) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", re.MULTILINE
)
_SHARE = 0.05  # an engine's samples have other forms on another CPU


def test_the_document_is_what_trying_gives(audited, tried):
    written, now = DOCUMENT.read_text(encoding="utf-8"), document(audited, tried)
    assert _COUNTS.sub(r"\1", written) == _COUNTS.sub(r"\1", now), "python tests/support/threats.py"
    rows = list(zip(_COUNTS.findall(written), _COUNTS.findall(now), strict=True))
    assert len(rows) == 3
    for before, after in rows:
        fields = int(after[1])
        drift = [abs(int(old) - int(new)) for old, new in zip(before[1:], after[1:], strict=True)]
        assert max(drift) <= _SHARE * fields, "python tests/support/threats.py"
