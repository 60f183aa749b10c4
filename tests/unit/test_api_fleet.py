"""The fleet through the Python API: the same views as the command line's."""

from pathlib import Path

import fleetdata
import pytest

import undercroft
from undercroft.errors import NotFoundError
from undercroft.store.fleet.records import open_records


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = str(tmp_path / "fleet.db")
    records = open_records(path)
    fleetdata.fill(records)
    records.close()
    return path


def test_the_fleet_has_its_rows(database: str) -> None:
    found = undercroft.fleet(database)
    assert found.behind
    assert [row.name for row in found.rows[:2]] == ["gw01", "db01"]


def test_a_machine_has_its_states(database: str) -> None:
    assert [state.row.state for state in undercroft.machine("db01", database).states] == ["current", "clean"]


def test_this_hosts_record_is_the_default(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCROFT_FLEET_DATABASE", database)
    assert undercroft.machine("web01").uuid == fleetdata.WEB01.uuid


def test_where_there_is_no_record_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="undercroft up"):
        undercroft.fleet(str(tmp_path / "none.db"))
    assert list(tmp_path.iterdir()) == []
