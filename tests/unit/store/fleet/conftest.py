from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from memoryrecords import MemoryRecords

from undercroft.ports.records import Records
from undercroft.store.fleet.records import open_records


@pytest.fixture(
    params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgres"))]
)
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    """The fake and both databases: what one does, each does."""
    if request.param == "memory":
        yield MemoryRecords()
        return
    opened = _database(request, tmp_path)()
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgres"))])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Records]:
    """Opens the same real database each time."""
    return _database(request, tmp_path)


def _database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Records]:
    if request.param == "sqlite":
        return lambda: open_records(str(tmp_path / "state" / "fleet.db"))
    server = request.getfixturevalue("postgres")
    url = server.url(server.new_database("migrated"))
    return lambda: open_records(url)
