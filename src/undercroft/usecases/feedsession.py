"""What an update or an import of advisories works with: the database, the spool, the journal.

with FeedSession(database) as session:
    results = session.update(publishers)
    results += session.update_from_mirrors(host_sources(), inventories=inventories)
"""

import platform
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from undercroft.adapters.apt import verifier_for
from undercroft.adapters.download import SpoolingDownloader
from undercroft.advisories.feeds.sources_list import AptSource
from undercroft.advisories.match import missing_changelogs
from undercroft.advisories.releases import release_key
from undercroft.errors import UnsupportedError
from undercroft.model.inventory import Inventory
from undercroft.store.database import AdvisoryDatabase
from undercroft.usecases import feeds
from undercroft.usecases.assess import knowledge_for
from undercroft.usecases.changelogs import SourceVersion, import_changelogs
from undercroft.usecases.feedresult import FeedResult, Outcome, Progress, silent
from undercroft.usecases.journal import Journal
from undercroft.usecases.mirror import Mirrors, Suite, import_mirrors
from undercroft.usecases.publishers import Publisher

_DEBIAN_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class FeedSession:
    """The advisory database opened for writing, and where downloads wait beside it.

    Args:
        database: path of the database; its folder also holds the spool and the journal.
        progress: told of every step.

    Raises:
        StateError: another import is running.
        OperationError: no permission, or the file is damaged.
    """

    def __init__(self, database: str, *, progress: Progress = silent) -> None:
        folder = Path(database).parent
        self._now = datetime.now(UTC)
        self._progress = progress
        self._journal = Journal(folder / "editions.json")
        with ExitStack() as stack:
            self._database = stack.enter_context(AdvisoryDatabase(database, writable=True))
            self._downloader = stack.enter_context(SpoolingDownloader(folder / "spool"))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def update(self, publishers: Sequence[Publisher]) -> tuple[FeedResult, ...]:
        """Fetch feeds from their publishers; one result each."""
        return feeds.update(
            self._database,
            self._downloader,
            publishers,
            self._journal,
            now=self._now,
            progress=self._progress,
        )

    def import_paths(
        self, paths: Iterable[Path], *, named: feeds.Named = feeds.UNNAMED
    ) -> tuple[FeedResult, ...]:
        """Import files and folders; one result per feed."""
        return feeds.import_paths(
            self._database, paths, self._journal, now=self._now, progress=self._progress, named=named
        )

    def update_from_mirrors(
        self,
        sources: Sequence[AptSource],
        *,
        keyrings: Sequence[Path] = (),
        inventories: Iterable[Inventory] = (),
    ) -> tuple[FeedResult, ...]:
        """Import the signed indexes of `sources`, and the changelogs that explain what `inventories` lack.

        Args:
            sources: suites of mirrors.
            keyrings: keys to trust instead of each source's own.
            inventories: taken once, after the indexes are in.

        Returns:
            One result per suite, one per inventory that no changelog can be fetched for, and those of
            `import_changelogs`.
        """
        mirrors = Mirrors(
            self._downloader,
            lambda source: verifier_for(source, keyrings),
            _DEBIAN_ARCHITECTURES.get(platform.machine(), platform.machine()),
            self._now,
            self._progress,
        )
        results, suites = import_mirrors(self._database, mirrors, sources)
        releases = {suite.release.release for suite in suites}
        readable = []
        for inventory in inventories:
            if reason := _unserved(inventory, releases):
                name = inventory.hostname or "changelogs"
                results += (FeedResult(name, Outcome.REFUSED, detail=reason),)
            else:
                readable.append(inventory)
        return results + self._import_changelogs(mirrors, suites, readable)

    def _import_changelogs(
        self, mirrors: Mirrors, suites: Sequence[Suite], inventories: Sequence[Inventory]
    ) -> tuple[FeedResult, ...]:
        """Fetch the changelogs of newer versions, then of installed ones that those do not continue."""
        results: tuple[FeedResult, ...] = ()
        asked: set[SourceVersion] = set()
        for _ in range(2):
            missing = {
                (subject.source, subject.version)
                for inventory in inventories
                for subject in missing_changelogs(inventory, knowledge_for(self._database, inventory))
            }
            if missing - asked:
                results += import_changelogs(self._database, mirrors, suites, missing - asked)
            asked |= missing
        return results

    def remove(self, name: str) -> None:
        """Forget a feed. Raises NotFoundError where there is none of that name."""
        self._database.remove_feed(name)


def _unserved(inventory: Inventory, releases: Collection[str]) -> str:
    """Return why mirrors of `releases` have no changelogs for a machine, "" when they may have."""
    if inventory.os is None:
        return "no operating system could be read in it, so no changelog is fetched"
    try:
        release = release_key(inventory.os)
    except UnsupportedError as error:
        return str(error)
    if release in releases:
        return ""
    known = ", ".join(sorted(releases)) or "no release"
    return f"it runs {release}, and the mirror has {known}: name a mirror of {release} with --mirror"
