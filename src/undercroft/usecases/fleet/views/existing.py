"""The record that `undercroft up` keeps, for whoever reads it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from undercroft.errors import NotFoundError
from undercroft.ports.records import Records
from undercroft.usecases.fleet.places import Places


@contextmanager
def existing_records(database: str = "") -> Iterator[Records]:
    """Open the record, which has to be there already.

    Args:
        database: a path (SQLite) or a URL, "" for this host's.

    Raises:
        NotFoundError: there is none yet.
        InputError, DeniedError, StateError, OperationError: it cannot be opened.
    """
    from undercroft.store.fleet.records import open_records  # noqa: PLC0415 - SQLAlchemy, only when used

    url = database or Places.default().database_url
    try:
        records = open_records(url, create=False)
    except NotFoundError as error:
        raise NotFoundError(
            f"{url}: no fleet is on record yet; `undercroft up` on this host begins one"
        ) from error
    with closing(records):
        yield records
