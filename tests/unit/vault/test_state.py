"""What a vault is put back from keeps the conditions that the core's proof takes for granted."""

import pytest

from undercroft.channel import cbor
from undercroft.errors import DamagedError
from undercroft.vault import commands
from undercroft.vault.answers import EPOCH_LIMIT, INCREMENT, WINDOW
from undercroft.vault.state import Vault

MACHINE = bytes(16)
CORE, WINDOW_PART = 1, 2


def _put_back(part: int, members: list[cbor.Value]) -> Vault:
    vault = Vault(MACHINE)
    vault.load(part, members)
    return vault


@pytest.mark.parametrize(
    "members", [[-1, 0, 0, 0, 0], [EPOCH_LIMIT, 0, 0, 0, 0], [1, -1, 0, 0, 0], [1, 0, 0, 0, -1]]
)
def test_no_vault_is_put_back_to_an_epoch_a_fence_or_a_number_that_none_was_at(
    members: list[cbor.Value],
) -> None:
    with pytest.raises(DamagedError, match="no vault was ever in"):
        _put_back(CORE, members)


@pytest.mark.parametrize("rows", [0, WINDOW - 1, WINDOW + 1])
def test_no_vault_is_put_back_with_another_count_of_kept_answers(rows: int) -> None:
    with pytest.raises(DamagedError, match="no vault was ever in"):
        _put_back(WINDOW_PART, [0, b"", 0] * rows)


def test_what_a_vault_wrote_of_itself_puts_it_back() -> None:
    vault = Vault(MACHINE)
    vault.core.begin(3)
    vault.take(b"x" * 16, False)
    first = vault.core.request(1, 1, 5, INCREMENT, 256 + 65, 2, 0, 0)
    other = Vault(MACHINE)
    for record in vault.dump():
        _kind, _machine, part, *members = commands.read(record)
        assert isinstance(part, int)
        other.load(part, members)
    assert list(other.dump()) == list(vault.dump())
    assert other.core.request(1, 1, 5, INCREMENT, 256 + 65, 2, 0, 0) == first
