"""Which contracts are found: what is named, what the project has, what comes with refute."""

import pytest
from contract_texts import contract_data, write_contract

from refute.contract import ContractError
from refute.contract_files import find_contracts


def test_named_files_and_folders_come_first(tmp_path):
    (tmp_path / "contracts").mkdir()
    write_contract(tmp_path / "contracts", contract_data(), "own")
    other = tmp_path / "other"
    other.mkdir()
    b, a = (write_contract(other, contract_data(), name) for name in "ba")
    assert find_contracts(tmp_path, [b]) == [b]
    assert find_contracts(tmp_path, [b, other]) == [b, a]


def test_own_contracts_come_before_the_bundled_ones(tmp_path):
    (tmp_path / "contracts").mkdir()
    path = write_contract(tmp_path / "contracts", contract_data(), "own")
    assert find_contracts(tmp_path) == [path]


def test_without_contracts_of_their_own_users_get_the_bundled_ones(tmp_path):
    assert "qwen3-moe-kv-cache-v1" in [path.stem for path in find_contracts(tmp_path)]


def test_an_empty_folder_and_an_absent_path_are_errors(tmp_path):
    (tmp_path / "contracts").mkdir()
    with pytest.raises(ContractError, match="no contract in this folder"):
        find_contracts(tmp_path)
    with pytest.raises(ContractError, match="no such file or folder"):
        find_contracts(tmp_path, [tmp_path / "absent"])
