"""The honest tree, made once per session; whoever edits it takes a copy."""

import pytest
from audited import Audited, make_tree


@pytest.fixture(scope="session")
def audited(tmp_path_factory):
    return Audited.of(make_tree(tmp_path_factory.mktemp("audited")))
