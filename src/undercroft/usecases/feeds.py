"""Advisories into the local database: from their publishers, from mirrors, from files.

Guarantees: each feed is imported whole or not at all, and one that fails leaves what the database had and
does not keep the others back. Work that was done stays done: every feed is committed by itself (and on the
disk within seconds), what was downloaded waits in the spool, an edition that the publisher says is unchanged
is not fetched again. No file that is named, or lies in a folder that is named, is passed over in silence.

An edition without a date of its own (the Debian tracker) is not made younger by being fetched once more:
unchanged content keeps its age, so a frozen mirror goes stale.

    with AdvisoryDatabase(path, writable=True) as database, SpoolingDownloader(spool) as downloader:
        results = update(database, downloader, select((), {}, os.environ), journal, now=now)
"""

import hashlib
import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from undercroft.advisories.coverage import UPDATEINFO
from undercroft.advisories.feeds import cve, repomd
from undercroft.advisories.feeds.archives import MAX_MEMBER_BYTES
from undercroft.advisories.feeds.bounded import read_all
from undercroft.advisories.feeds.feed import FeedInput
from undercroft.advisories.feeds.registry import is_cve_record, parse_any
from undercroft.advisories.feeds.updateinfo import repository_of
from undercroft.errors import DeniedError, InputError, NotFoundError, OperationError, StateError
from undercroft.ports.downloader import Download, Downloader, Wanted
from undercroft.usecases.feedresult import FeedProgress, FeedResult, Outcome, Progress, silent
from undercroft.usecases.ingest import AdvisoryStore, Ingest, refusals, watched
from undercroft.usecases.journal import Imported, Journal
from undercroft.usecases.publishers import Publisher

MAX_FILES = 1_000_000


class Named(NamedTuple):
    """What the user says that a file of errata does not tell: "oracle:9", "ol9_appstream"; "" for nothing."""

    release: str = ""
    repository: str = ""


UNNAMED = Named()

_CHANGE_LOGS = frozenset({"delta.json", "deltaLog.json"})
"""Of the CVE list, https://github.com/CVEProject/cvelistV5: which records changed, and none of them."""


def update(
    database: AdvisoryStore,
    downloader: Downloader,
    publishers: Sequence[Publisher],
    journal: Journal,
    *,
    now: datetime,
    progress: Progress = silent,
) -> tuple[FeedResult, ...]:
    """Fetch the feeds of `publishers` and import what is new.

    Args:
        database: written to.
        downloader: where the files come from.
        publishers: see `publishers.select`.
        journal: remembers which editions were imported from where.
        now: the time of the import.
        progress: called often.

    Returns:
        One result per publisher, in their order.
    """
    results: list[FeedResult] = []
    ingest = Ingest(database, now, progress)
    for publisher in publishers:
        with refusals(results, publisher.name):
            results.append(_update_one(ingest, downloader, publisher, journal))
    return tuple(results)


def _update_one(ingest: Ingest, downloader: Downloader, publisher: Publisher, journal: Journal) -> FeedResult:
    known = journal.known(publisher.name, ingest.serials())
    if known.url != publisher.url:  # another server's validators mean nothing
        known = Imported(serial=known.serial, sha256=known.sha256)
    wanted = Wanted(publisher.url, publisher.limit_bytes, etag=known.etag, last_modified=known.last_modified)
    download = _fetched(ingest, downloader, publisher, wanted)
    if download is not None and publisher.url.endswith(f"/{repomd.PATH}"):
        download = _errata(ingest, downloader, publisher, download, known)
    if download is None:
        return FeedResult(publisher.name, Outcome.UNCHANGED, serial=known.serial)
    try:
        if download.sha256 == known.sha256:
            result = FeedResult(publisher.name, Outcome.UNCHANGED, serial=known.serial)
        else:
            result = _import_download(ingest, publisher, download)
    except (InputError, StateError):
        downloader.discard(download)  # it stays what it is, while a full disk or a lock may pass
        raise
    journal.remember(
        result.name,
        Imported(result.serial, publisher.url, download.sha256, download.etag, download.last_modified),
    )
    journal.save()
    downloader.discard(download)
    return result


def _fetched(ingest: Ingest, downloader: Downloader, publisher: Publisher, wanted: Wanted) -> Download | None:
    try:
        return downloader.download(
            wanted, lambda done, total: ingest.progress(FeedProgress(publisher.name, "download", done, total))
        )
    except (NotFoundError, OperationError) as error:
        raise type(error)(
            f"{error}; a site without internet names its own copy with --from {publisher.name}=URL, "
            "or brings the file: undercroft feeds import PATH"
        ) from error


def _errata(
    ingest: Ingest, downloader: Downloader, publisher: Publisher, index: Download, known: Imported
) -> Download | None:
    """Return the errata that an index names, with its validators; None for those that are there already."""
    try:
        with index.path.open("rb") as file:
            listed = repomd.errata_in(read_all(file, repomd.MAX_BYTES, publisher.url), publisher.url)
    finally:
        downloader.discard(index)
    if listed.sha256 == known.sha256:
        return None
    wanted = Wanted(listed.url, publisher.limit_bytes, sha256=listed.sha256)
    found = _fetched(ingest, downloader, publisher, wanted)
    return found and replace(found, etag=index.etag, last_modified=index.last_modified)


def _named(publisher: Publisher) -> Named:
    """Return what a publisher's name says of errata: "updateinfo:oracle:9:ol9_appstream"."""
    if not publisher.name.startswith(UPDATEINFO):
        return UNNAMED
    release, _, repository = publisher.name.removeprefix(UPDATEINFO).rpartition(":")
    return Named(release, repository)


def _import_download(ingest: Ingest, publisher: Publisher, download: Download) -> FeedResult:
    with download.path.open("rb") as file:
        content = watched(file, publisher.name, ingest.progress)
        named = _named(publisher)
        feed = parse_any(FeedInput(publisher.url, content, ingest.now, download.modified_at, *named))
        if feed.header.name != publisher.name:
            raise InputError(f"{publisher.url}: holds {feed.header.name}, not {publisher.name}")
        return ingest.replace(feed)


def import_paths(
    database: AdvisoryStore,
    paths: Iterable[Path],
    journal: Journal,
    *,
    now: datetime,
    progress: Progress = silent,
    named: Named = UNNAMED,
) -> tuple[FeedResult, ...]:
    """Import files of any accepted format, and folders of them; a folder's CVE records are one feed.

    Args:
        database: written to.
        paths: of files and folders.
        journal: remembers which editions were imported.
        now: the time of the import.
        progress: called often.
        named: what the user says of errata of repositories, for all of them.

    Returns:
        One result per feed; a file that is refused is named by its path.
    """
    results: list[FeedResult] = []
    ingest = Ingest(database, now, progress)
    try:
        for path in paths:
            with refusals(results, str(path)):
                if path.is_dir():
                    _import_folder(ingest, path, journal, results, named)
                else:
                    results.append(_import_file(ingest, path, journal, named))
    finally:
        with refusals(results, str(journal.path)):
            journal.save()
    return tuple(results)


def _import_file(ingest: Ingest, path: Path, journal: Journal, named: Named) -> FeedResult:
    with _opened(path) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        serials = ingest.serials()
        if name := journal.holder(sha256, serials):
            return FeedResult(name, Outcome.UNCHANGED, serial=serials[name])
        # A copy may be younger than its content, never older: a date that errs on the safe side.
        written_at = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
        content = watched(file, path.name, ingest.progress)
        modified_at = min(written_at, ingest.now)
        repository = named.repository or repository_of(str(path.absolute()))
        feed = parse_any(FeedInput(str(path), content, ingest.now, modified_at, named.release, repository))
        result = ingest.replace(feed)
    journal.remember(result.name, Imported(result.serial, sha256=sha256))
    return result


def _import_folder(
    ingest: Ingest, folder: Path, journal: Journal, results: list[FeedResult], named: Named
) -> None:
    """Import the CVE records below `folder` as one feed, and each other file by itself."""
    cve_records: list[Path] = []
    others: list[Path] = []
    for path in _files(folder, results):
        with refusals(results, str(path)):
            (cve_records if is_cve_record(_content(path), str(path)) else others).append(path)
    if cve_records:
        with refusals(results, str(folder)):
            documents = ((str(path), _content(path)) for path in cve_records)
            results.append(ingest.replace(cve.parse_documents(documents, str(folder), ingest.now)))
    for path in others:
        with refusals(results, str(path)):
            if cve_records and path.name in _CHANGE_LOGS:
                results.append(FeedResult(str(path), Outcome.SKIPPED, detail="a log of changes, no record"))
            else:
                results.append(_import_file(ingest, path, journal, named))


def _files(folder: Path, results: list[FeedResult]) -> list[Path]:
    """Return the regular files below `folder`, sorted; symlinks are not followed.

    Folders and files that cannot be read become results. Raises InputError for no file, or too many.
    """

    def refuse(error: OSError) -> None:
        with refusals(results, str(error.filename)):
            raise error

    found: list[Path] = []
    refused_before = len(results)
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            with refusals(results, str(path)):
                if stat.S_ISREG(path.lstat().st_mode):
                    found.append(path)
        if len(found) > MAX_FILES:
            raise InputError(f"{folder}: more than {MAX_FILES} files")
    if not found and len(results) == refused_before:
        raise InputError(f"{folder}: holds no file")
    return found


def _content(path: Path) -> bytes:
    with _opened(path) as file:
        return file.read(MAX_MEMBER_BYTES + 1)


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file that the user named, if it is a regular one: a pipe would keep the others waiting."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path}: is no regular file")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: there is no such file") from error
    except PermissionError as error:
        raise DeniedError(f"{path}: no permission to read it") from error
    except OSError as error:
        raise OperationError(f"{path}: cannot be read: {error}") from error
