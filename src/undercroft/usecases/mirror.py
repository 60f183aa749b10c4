"""A distribution's mirror as a source of its own: signed indexes, and the changelogs of newer packages.

The verification of a suite, in this order; nothing of a later step is fetched or parsed before:

1. InRelease (else Release and Release.gpg) carries a good signature of a key that is trusted for this mirror.
2. What was signed, and only that, is parsed.
3. It is the suite that was asked for, not expired, not from the future.
4. Its date does not go back behind the stored edition's: the store refuses that.
5. Each index has the digest and the length that the signed Release lists.
6. Each package that is fetched has the digest that its index lists.

A suite whose Release has no Valid-Until (Debian's main suites change at point releases only) counts its age
from the import, since its date says nothing of whether the mirror is alive; the security suite beside it
expires by itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from undercroft.advisories.feeds import ages
from undercroft.advisories.feeds.feed import Feed
from undercroft.advisories.feeds.packages_index import ListedPackage, index_entries, listed_packages
from undercroft.advisories.feeds.release_file import (
    MAX_RELEASE_BYTES,
    IndexFile,
    Release,
    check_release,
    parse_release,
)
from undercroft.advisories.feeds.sources_list import AptSource
from undercroft.advisories.records import FeedHeader
from undercroft.errors import DeniedError, InputError, NotFoundError, OperationError, UnsupportedError
from undercroft.ports.downloader import Download, Downloader, Wanted
from undercroft.ports.signatures import Signed, Verifier
from undercroft.usecases.feedresult import FeedProgress, FeedResult, Outcome, Progress, silent
from undercroft.usecases.ingest import AdvisoryStore, Ingest, refusals

VerifierFor = Callable[[AptSource], Verifier]

_SCHEMES = ("https://", "http://", "file:/")
_COMPRESSIONS = (".xz", ".zst", ".gz", "")


@dataclass(frozen=True, slots=True)
class Suite:
    """A verified edition of a suite, with its indexes in the spool."""

    source: AptSource
    release: Release
    signed_by: str
    indexes: tuple[Path, ...]

    @property
    def feed_name(self) -> str:
        """The name of the feed that it becomes: "mirror:debian:12:bookworm-security"."""
        return f"mirror:{self.release.release}:{self.release.name}"

    def packages(self) -> Iterator[ListedPackage]:
        """Yield the packages of all its indexes. Raises InputError."""
        for path in self.indexes:
            with path.open("rb") as file:
                yield from listed_packages(file, f"{self.source.base}: {self.source.suite}")


@dataclass(frozen=True, slots=True)
class Mirrors:
    """What importing mirrors needs.

    Attributes:
        downloader: where files come from.
        verifier_for: the verifier for a source, by its Signed-By.
        architecture: the one to read where a source names none ("amd64").
        now: the time of the import.
        progress: called often.
    """

    downloader: Downloader
    verifier_for: VerifierFor
    architecture: str
    now: datetime
    progress: Progress = silent

    def fetch(self, wanted: Wanted, name: str) -> Download:
        """Download a file. Raises as `Downloader.download` does."""
        download = self.downloader.download(
            wanted, lambda done, total: self.progress(FeedProgress(name, "download", done, total))
        )
        if download is None:
            raise OperationError(f"{wanted.url}: the server claims that an edition is here that is not")
        return download


def import_mirrors(
    database: AdvisoryStore, mirrors: Mirrors, sources: Sequence[AptSource]
) -> tuple[tuple[FeedResult, ...], tuple[Suite, ...]]:
    """Import the indexes of `sources`, one feed per suite.

    Returns:
        One result per suite of a mirror, in the order of `sources`, and the suites that passed verification.
    """
    results: list[FeedResult] = []
    suites: list[Suite] = []
    ingest = Ingest(database, mirrors.now, mirrors.progress)
    for source in _merged(sources):
        name = f"mirror:{source.suite}"
        with refusals(results, name):
            try:
                suite = open_suite(mirrors, source)
            except UnsupportedError as error:
                results.append(FeedResult(name, Outcome.SKIPPED, detail=str(error)))
                continue
            results.append(_import_suite(ingest, suite))
            suites.append(suite)
    return tuple(results), tuple(suites)


def _merged(sources: Sequence[AptSource]) -> list[AptSource]:
    """Return `sources` with those that name more components of the same suite put together."""
    merged: dict[tuple[str, str], AptSource] = {}
    for source in sources:
        place = (source.base, source.suite)
        known = merged.get(place, source)
        merged[place] = replace(
            known,
            components=tuple(dict.fromkeys(known.components + source.components)),
            architectures=tuple(dict.fromkeys(known.architectures + source.architectures)),
        )
    return list(merged.values())


def _import_suite(ingest: Ingest, suite: Suite) -> FeedResult:
    release = suite.release
    if ingest.serials().get(suite.feed_name) == release.serial:
        if release.valid_until is None:
            ingest.database.confirm_feed(suite.feed_name, ingest.now)
        return FeedResult(suite.feed_name, Outcome.UNCHANGED, serial=release.serial)
    header = FeedHeader(
        name=suite.feed_name,
        serial=release.serial,
        published_at=release.dated_at if release.valid_until else None,
        valid_until=release.valid_until,
        max_age_s=ages.PACKAGE_INDEX_S,
        releases=(release.release,),
        signed_by=suite.signed_by,
    )
    records = index_entries(suite.packages(), release.release, release.name)
    return ingest.replace(Feed(header, records))


def open_suite(mirrors: Mirrors, source: AptSource) -> Suite:
    """Fetch a suite's Release and indexes and verify them, steps 1 to 5 of this module's docstring.

    Raises:
        InputError: not rightly signed, malformed, another suite, or other digests.
        StateError: expired.
        NotFoundError: the mirror has no such suite, component or architecture.
        DeniedError: an address that is not read.
        OperationError: the network, gpgv or the disk failed.
    """
    if not source.base.startswith(_SCHEMES):
        raise DeniedError(f"{source.base}: mirrors are read over https, http and file only")
    name = f"{source.base}: {source.suite}"
    signed = _signed_release(mirrors, source)
    release = parse_release(_text(signed, name), name)
    check_release(release, source.suite, mirrors.now, name)
    indexes = tuple(_index(mirrors, source, release, index) for index in _wanted(mirrors, source, release))
    return Suite(source, release, signed.fingerprint, indexes)


def _signed_release(mirrors: Mirrors, source: AptSource) -> Signed:
    folder = f"{source.base}/dists/{source.suite}"
    verifier = mirrors.verifier_for(source)
    try:
        return verifier.clearsigned(_read(mirrors, f"{folder}/InRelease"), f"{folder}/InRelease")
    except NotFoundError:
        release = _read(mirrors, f"{folder}/Release")
        return verifier.detached(release, _read(mirrors, f"{folder}/Release.gpg"), f"{folder}/Release")


def _read(mirrors: Mirrors, url: str) -> bytes:
    download = mirrors.fetch(Wanted(url, MAX_RELEASE_BYTES, plain_http=True), url)
    data = download.path.read_bytes()
    mirrors.downloader.discard(download)
    return data


def _text(signed: Signed, what: str) -> str:
    try:
        return signed.text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{what}: its Release is no UTF-8") from error


def _wanted(mirrors: Mirrors, source: AptSource, release: Release) -> list[IndexFile]:
    """Return the smallest form of each index that the source asks for. Raises NotFoundError."""
    indexes = []
    for component in source.components:
        for architecture in source.architectures or (mirrors.architecture,):
            path = f"{component}/binary-{architecture}/Packages"
            found = [
                release.files[path + suffix] for suffix in _COMPRESSIONS if path + suffix in release.files
            ]
            if not found:
                raise NotFoundError(f"{source.base}: {source.suite} has no {path}")
            indexes.append(found[0])
    if not indexes:
        raise InputError(f"{source.base}: {source.suite}: name at least one component (main)")
    return indexes


def _index(mirrors: Mirrors, source: AptSource, release: Release, index: IndexFile) -> Path:
    folder = f"{source.base}/dists/{source.suite}"
    name = f"{source.suite}/{index.path}"
    plain = f"{folder}/{index.path}"
    by_hash = f"{folder}/{index.path.rpartition('/')[0]}/by-hash/SHA256/{index.sha256}"
    urls = [by_hash, plain] if release.by_hash else [plain]
    for url in urls[:-1]:
        try:
            return mirrors.fetch(_verified(url, index), name).path
        except NotFoundError:
            continue  # a partial copy of a mirror may lack by-hash
    return mirrors.fetch(_verified(plain, index), name).path


def _verified(url: str, index: IndexFile) -> Wanted:
    return Wanted(url, index.size_bytes, sha256=index.sha256, plain_http=True)
