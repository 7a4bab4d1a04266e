"""A contract and an evidence tree of its own for each test of records, status, gate and report.

`folder` is one for all contracts that a module reads.
"""

import pytest
from records import contract_at


@pytest.fixture
def contract(tmp_path):
    return contract_at(tmp_path / "contracts")


@pytest.fixture
def tree(tmp_path):
    return tmp_path / "evidence"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("contracts")
