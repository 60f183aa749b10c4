"""The images of folders, one after the other: bases before what rests on them, two at a time.

    scan = FolderScan(reader, cache, assess, scanned_at=now, sandboxed=True)
    for image in scan.images(walk(folders)):
        print(image.path, image.report.complete)
    print(scan.left_out)

Guarantees: each file gives one report or one line in `left_out`; an image that cannot be read stops no other.
What is held at one time does not grow with the number of images but for their names and what each says that
it rests on, and the answers of bases that something still rests on. What was read is kept on the way.
"""

import os
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime

from undercroft.errors import UndercroftError
from undercroft.model.disk import Coverage
from undercroft.model.finding import Assessment
from undercroft.model.images import ImageReport, LeftOut, Role
from undercroft.model.inventory import Inventory
from undercroft.model.report import CURRENT, DiskReport, ScanReport, StateReport
from undercroft.ports.imagecache import ImageCache
from undercroft.ports.reader import Reader
from undercroft.usecases.fleet.reading.layers import How
from undercroft.usecases.images.chains import Link, NamedFiles, link
from undercroft.usecases.images.reading import DISK, ImageRead, ImageReader, StateRead
from undercroft.usecases.images.survey import PIECE, Seen, is_piece, survey
from undercroft.usecases.images.walking import Found, FoundFile
from undercroft.usecases.report import MAX_STATES, Assess

READERS = 2
"""Images that are read at one time: each has a child of its own, and a processor to be on."""

MAX_WAITING = 8
"""Images that are read or being read while the first of them is not told yet."""

MAX_ASSESSMENTS = 64

_NONE = Coverage(())


@dataclass(frozen=True, slots=True)
class Done:
    """How far a scan has come.

    Attributes:
        phase: "looking" at what the files are, or "reading" images.
        done, total: files or images.
        done_bytes, total_bytes: what those take on their disk.
        text: the last one.
    """

    phase: str
    done: int
    total: int
    done_bytes: int = 0
    total_bytes: int = 0
    text: str = ""


class FolderScan:
    """A scan of many images.

    Args:
        reader: the sandbox; closed where the scan is broken off, so that nobody waits for its children.
        cache: what is kept of earlier calls.
        assess: called by the thread that iterates.
        scanned_at, sandboxed, as_of: for the reports.
        extra: files that headers may pick too, without being images of their own.
        progress: called once in a while.

    Attributes:
        left_out: what is not among the images, known once `images` has ended.
        total: images, known once the first one comes.
    """

    def __init__(
        self,
        reader: Reader,
        cache: ImageCache,
        assess: Assess,
        *,
        scanned_at: datetime,
        sandboxed: bool,
        as_of: date | None = None,
        extra: Sequence[str] = (),
        progress: Callable[[Done], None] | None = None,
    ) -> None:
        self._reader = reader
        self._cache = cache
        self._assessed = _Assessed(assess)
        self._scanned_at = scanned_at
        self._sandboxed = sandboxed
        self._as_of = as_of
        self._extra = extra
        self._progress = progress or _nobody
        self.left_out: list[LeftOut] = []
        self.total = 0

    def images(self, found: Found) -> Iterator[ImageReport]:
        """Yield a report on each image: bases first, then by path.

        Raises:
            DeniedError, OperationError: there is no sandbox, or it failed; what was yielded stands.
        """
        pool = ThreadPoolExecutor(READERS, "image")
        try:
            seen = self._survey(found, pool)
            files = NamedFiles((file.path for file in found.files), found.aliases, self._extra)
            links = link({image.path: image.info for image in seen}, files)
            seen = self._without_parts(seen, links)
            yield from self._read(seen, links, files, {file.path: file for file in found.files}, pool)
        except BaseException:
            self._reader.close()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _survey(self, found: Found, pool: ThreadPoolExecutor) -> list[Seen]:
        self.left_out = list(found.left_out)
        seen: list[Seen] = []
        total = len(found.files)
        looked = 0

        def tell(count: int) -> None:
            nonlocal looked
            looked += count
            self._progress(Done("looking", looked, total))

        self._progress(Done("looking", 0, total))
        for one in survey(found.files, self._reader, self._cache, pool, tell):
            if isinstance(one, LeftOut):
                self.left_out.append(one)
            else:
                seen.append(one)
        return seen

    def _without_parts(self, seen: Sequence[Seen], links: dict[str, Link]) -> list[Seen]:
        """Leave out the pieces of split disks: files without an account of themselves that others lie in.

        What can be read by itself is read by itself, whoever says that it is a part of theirs.
        """
        images = []
        for image in seen:
            if links[image.path].is_part and image.info is None and is_piece(image.path, self._reader):
                self.left_out.append(LeftOut(image.path, PIECE))
            else:
                images.append(image)
        self.total = len(images)
        return images

    def _read(
        self,
        seen: Sequence[Seen],
        links: dict[str, Link],
        files: NamedFiles,
        found: dict[str, FoundFile],
        pool: ThreadPoolExecutor,
    ) -> Iterator[ImageReport]:
        by_path = {image.path: image for image in seen}
        listed = {path: (file.device, file.inode) for path, file in found.items()}
        images = ImageReader(self._reader, self._cache, files, by_path, links, listed)
        waiting = Counter(links[image.path].below for image in seen)
        total_bytes = sum(found[image.path].used_bytes for image in seen)
        done = done_bytes = 0
        self._progress(Done("reading", 0, len(seen), 0, total_bytes))
        for depth in sorted({len(links[image.path].chain) for image in seen}):
            level = [image for image in seen if len(links[image.path].chain) == depth]
            for image, read in self._parallel(level, images, pool):
                place = links[image.path]
                report = self._report(image, place, read, files)
                yield report
                waiting[place.below] -= 1
                for path in (place.below, image.path):
                    if not waiting[path]:
                        images.forget(path)
                done += 1
                done_bytes += found[image.path].used_bytes
                name = os.path.basename(image.path)
                self._progress(Done("reading", done, len(seen), done_bytes, total_bytes, name))

    def _parallel(
        self, level: Sequence[Seen], images: ImageReader, pool: ThreadPoolExecutor
    ) -> Iterator[tuple[Seen, ImageRead | UndercroftError]]:
        """Yield what was read of each image, in order, a few being read ahead."""
        ahead: deque[tuple[Seen, Future[ImageRead]]] = deque()
        for image in level:
            ahead.append((image, pool.submit(images.read, image)))
            if len(ahead) >= MAX_WAITING:
                yield self._result(*ahead.popleft())
        while ahead:
            yield self._result(*ahead.popleft())

    def _result(self, image: Seen, future: Future[ImageRead]) -> tuple[Seen, ImageRead | UndercroftError]:
        try:
            return image, future.result()
        except UndercroftError as error:
            self._reader.call("survey", {"images": []}, [])  # raises where it was the sandbox that failed
            return image, error

    def _report(
        self, image: Seen, place: Link, read: ImageRead | UndercroftError, files: NamedFiles
    ) -> ImageReport:
        if isinstance(read, UndercroftError):
            lost = StateReport(CURRENT, "", 0, None, None, (str(read),))
            disk = DiskReport(DISK, image.path, "unread", "probed", (), 0)
            return self._with(image, place, (disk,), (lost,))
        states = [self._state_report(state) for state in read.states]
        if read.left_out:
            states[0] = _short(states[0], read.left_out)
        chain = read.disks[0].chain
        warnings: tuple[str, ...] = ()
        name = image.info.backing_name if image.info else ""
        if chain and name and files.moved(name, image.path, chain[0]):
            warnings = (
                f"its header names {name!r}, where nothing lies; {chain[0]} was taken,"
                " the only file here that is called the same",
            )
        how = read.states[0].how
        shared = place.below if how is How.PROVEN and place.below else ""
        return self._with(
            image, place, read.disks, tuple(states), warnings, shared, kept=how is How.UNCHANGED
        )

    def _with(
        self,
        image: Seen,
        place: Link,
        disks: tuple[DiskReport, ...],
        states: tuple[StateReport, ...],
        warnings: tuple[str, ...] = (),
        shared: str = "",
        *,
        kept: bool = False,
    ) -> ImageReport:
        report = ScanReport(
            machine=os.path.basename(image.path),
            disks=disks,
            states=states,
            sandboxed=self._sandboxed,
            scanned_at=self._scanned_at,
            as_of=self._as_of,
            feeds=next((state.assessment.feeds for state in states if state.assessment), ()),
            warnings=warnings,
        )
        return ImageReport(image.path, Role.BASE if place.is_base else Role.MACHINE, report, shared, kept)

    def _state_report(self, read: StateRead) -> StateReport:
        assessment = self._assessed.of(read.inventory) if read.inventory else None
        return StateReport(
            name=read.state.name,
            ident=read.state.ident,
            created_at_s=read.state.created_at_s,
            inventory=read.inventory,
            assessment=assessment,
            problems=(*read.problems, *(assessment.problems if assessment else ())),
            read_ms=read.read_ms,
        )


def _nobody(done: Done) -> None:
    """Tell nobody."""
    del done


class _Assessed:
    """Assessments by what they follow from: that of a base is asked for again with each of its clones.

    What tells clones apart, and lists that are the same object, are no part of it: a list of packages that
    was read for each of them costs more to compare than to assess.
    """

    def __init__(self, assess: Assess) -> None:
        self._assess = assess
        self._known: OrderedDict[tuple[int, Inventory], tuple[object, Assessment]] = OrderedDict()

    def of(self, inventory: Inventory) -> Assessment:
        """Return what the advisories say of an inventory."""
        rest = replace(
            inventory, packages=(), hostname="", unowned_executables=0, unowned_examples=(), coverage=_NONE
        )
        key = (id(inventory.packages), rest)  # the list stays this object's for as long as it is kept here
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = (inventory.packages, self._assess(inventory))
            while len(self._known) > MAX_ASSESSMENTS:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return known[1]


def _short(state: StateReport, left_out: int) -> StateReport:
    """Return the current state with the problem that older snapshots were left out."""
    told = (
        f"{left_out} older snapshots were left out, the limit is {MAX_STATES} states;"
        " scan the image alone and name one of them as @STATE"
    )
    return replace(state, problems=(*state.problems, told))
