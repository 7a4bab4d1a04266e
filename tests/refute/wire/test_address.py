"""What people type as a URL or a key: read, or refused in a sentence that does not repeat it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute.wire.address import bases_of, check_key


@pytest.mark.parametrize(
    ("url", "bases"),
    [
        ("http://h/v1", ("http://h/v1",)),
        ("http://h/v1/", ("http://h/v1",)),
        ("http://h", ("http://h/v1", "http://h")),
        ("http://h:80/", ("http://h:80/v1", "http://h:80")),
        ("https://h:8443/api/v3/", ("https://h:8443/api/v3", "https://h:8443/api/v3/v1")),
        ("http://[::1]:8/v1", ("http://[::1]:8/v1",)),
        ("http://hé.example/v1", ("http://xn--h-bga.example/v1",)),
    ],
)
def test_the_version_in_the_path_may_be_left_out(url, bases):
    assert bases_of(url) == bases


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "no http or https URL"),
        ("h:80", "no http or https URL"),
        ("ftp://h", "no http or https URL"),
        ("http://", "no http or https URL"),
        ("http://h:x/v1", "host or port cannot be read"),
        ("http://h:65536/v1", "host or port cannot be read"),
        ("http://a..b/v1", "host or port cannot be read"),
        ("http://[::1/v1", "host or port cannot be read"),
        ("http://h/v1?key=s3cret", "a query or a fragment"),
        ("http://h/v1#s3cret", "a query or a fragment"),
        ("http://me:s3cret@h/v1", "a name or a password"),
        ("http://me:s3cret@h:x/v1", "host or port cannot be read"),
        ("me:s3cret@h/v1", "no http or https URL"),
        ("http://h/v 1", "characters that must be escaped"),
        ("http://h/é/v1", "characters that must be escaped"),
    ],
)
def test_what_is_no_such_url_is_a_sentence_without_secrets(url, why):
    with pytest.raises(ValueError, match=why) as refused:
        bases_of(url)
    assert "s3cret" not in str(refused.value)


@given(st.text(max_size=20) | st.text(max_size=20).map("http://{}".format))
def test_any_text_is_read_or_refused(text):
    try:
        bases = bases_of(text)
    except ValueError:
        return
    assert all(bases_of(base)[0] in (base, f"{base}/v1") and base.isascii() for base in bases)


@pytest.mark.parametrize("key", ["", "two words", "line\n", "schlüssel", "\x00"])
def test_a_key_that_no_header_can_hold(key):
    with pytest.raises(ValueError, match=r"^VAR: the key is empty, or has characters") as refused:
        check_key(key, "VAR")
    assert not key.strip() or key.strip() not in str(refused.value)


def test_a_key():
    check_key("sk-0123_abc.DEF=", "VAR")
