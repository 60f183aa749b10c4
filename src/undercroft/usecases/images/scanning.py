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
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime

from undercroft.errors import UndercroftError
from undercroft.model.images import ImageReport, LeftOut
from undercroft.ports.imagecache import ImageCache
from undercroft.ports.reader import Reader
from undercroft.usecases.images.chains import Link, NamedFiles, link
from undercroft.usecases.images.keyed import ImageKeys
from undercroft.usecases.images.opening import ImageOpener
from undercroft.usecases.images.reading import ImageRead, ImageReader
from undercroft.usecases.images.reporting import Reports
from undercroft.usecases.images.survey import PIECE, Seen, is_piece, survey
from undercroft.usecases.images.walking import Found, FoundFile
from undercroft.usecases.keys import KeyRing
from undercroft.usecases.report import Assess

READERS = 2
"""Images that are read at one time: each has a child of its own, and a processor to be on."""

MAX_WAITING = 8
"""Images that are read or being read while the first of them is not told yet."""


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
        keys: for encrypted volumes; they stay the caller's. Their names as `keyed.ImageKeys` has them.

    Attributes:
        left_out: what is not among the images, known once `images` has ended.
        unused_keys: names of the keys that were meant for no encrypted volume of any image, likewise.
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
        keys: KeyRing | None = None,
    ) -> None:
        self._reader = reader
        self._cache = cache
        self._reports = Reports(assess, scanned_at, as_of, sandboxed=sandboxed)
        self._extra = extra
        self._progress = progress or _nobody
        self._keys = ImageKeys(keys)
        self.left_out: list[LeftOut] = []
        self.total = 0

    @property
    def unused_keys(self) -> tuple[str, ...]:
        """See the class."""
        return self._keys.unused

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
        opener = ImageOpener(self._reader, files, by_path, links, found)
        images = ImageReader(opener, self._cache, self._keys)
        waiting = Counter(links[image.path].below for image in seen)
        total_bytes = sum(found[image.path].used_bytes for image in seen)
        done = done_bytes = 0
        self._progress(Done("reading", 0, len(seen), 0, total_bytes))
        for depth in sorted({len(links[image.path].chain) for image in seen}):
            level = [image for image in seen if len(links[image.path].chain) == depth]
            for image, read in self._parallel(level, images, pool):
                place = links[image.path]
                report = self._reports.report(image, place, read, files)
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


def _nobody(done: Done) -> None:
    """Tell nobody."""
    del done
