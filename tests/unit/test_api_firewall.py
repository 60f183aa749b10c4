"""The firewall through the Python API: the same answers as the command line's."""

from pathlib import Path

import firewallrecord as fleet
import pytest

import undercroft
from undercroft.errors import InputError, NotFoundError
from undercroft.store.fleet.records import open_records
from undercroft.usecases.firewall.values import Holding


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = str(tmp_path / "fleet.db")
    records = open_records(path)
    fleet.fill(records)
    records.close()
    return path


def test_before_the_first_policy_there_is_a_status_and_nothing_to_ask(database: str) -> None:
    assert undercroft.firewall_status(database).applied is None
    with pytest.raises(NotFoundError, match="no firewall policy is in force"):
        undercroft.firewall_map(database)
    with pytest.raises(NotFoundError, match="no firewall policy is in force"):
        undercroft.firewall_trace("web01", "db01", "tcp/5432", database)


def test_the_policy_in_force_is_asked(database: str) -> None:
    records = open_records(database)
    fleet.apply(records)
    records.close()
    assert {host.holding for host in undercroft.firewall_status(database).hosts} == {Holding.SILENT}
    assert undercroft.firewall_map(database).policy == 1
    assert undercroft.firewall_trace("web01", "db01", "tcp/5432", database).rule == "policy.yaml:12"
    assert not undercroft.firewall_trace("world", "db01", "tcp/5432", database).allowed
    with pytest.raises(InputError, match="name one"):
        undercroft.firewall_trace("world", "db01", "tcp/1-9", database)
