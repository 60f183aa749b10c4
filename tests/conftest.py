"""What all tests share: folders of support modules and fakes, and the optional checkout-only data."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "support"))
sys.path.insert(0, str(Path(__file__).parent / "fakes"))

# make test: the same examples each time, so that what failed fails again. make soak: others, and twenty times
# as many. A busy machine is no mistake: no example has a deadline.
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same")
settings.register_profile("soak", max_examples=2000, deadline=None, derandomize=False)

if TYPE_CHECKING:
    from postgres import PostgresServer

MAX_NAME = 64


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name what is long by its length, and bytes: archives bear the second in which they were made.

    A test's name must be the same in each worker, and fits the environment of what the test runs.
    """
    too_long = isinstance(val, bytes | str) and len(val) > (
        MAX_NAME // 2 if isinstance(val, bytes) else MAX_NAME
    )
    return f"{argname}-{len(val)}" if too_long and isinstance(val, bytes | str) else None


SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real advisories and machines that a developer's checkout has beside it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the advisory and machine data that only developers' checkouts have")
    return SHARED_DATA


@pytest.fixture(scope="session")
def postgres() -> Iterator["PostgresServer"]:
    """A PostgreSQL cluster of the tests' own, with a database `migrated` that holds an empty record."""
    import postgres  # noqa: PLC0415 - psycopg and SQLAlchemy are for few tests

    from undercroft.store.fleet.records import open_records  # noqa: PLC0415

    if postgres.programs() is None:
        pytest.skip("needs PostgreSQL's server: apt-get install postgresql")
    with postgres.server() as server:
        server.execute("CREATE DATABASE migrated")
        open_records(server.url("migrated")).close()
        yield server
