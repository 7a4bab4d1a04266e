"""The honest tree, made once per session; whoever edits it takes a copy."""

import pytest
from audited import Audited, make_tree
from mutations import fates


@pytest.fixture(scope="session")
def audited(tmp_path_factory):
    return Audited.of(make_tree(tmp_path_factory.mktemp("audited")))


@pytest.fixture(scope="session")
def tried(audited):
    """Every field of it, changed by every editor."""
    return fates(audited)
