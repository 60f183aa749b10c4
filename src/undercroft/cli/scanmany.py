"""`undercroft scan` of folders and of several images: each found, grouped and read; see `usecases.images`."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import click

from undercroft.cli.exitcode import ExitCode, FailOn, exit_code, why
from undercroft.cli.options import screen, show
from undercroft.cli.render import table
from undercroft.cli.render.escape import harmless
from undercroft.cli.render.estimate import Estimate
from undercroft.cli.render.images import Overview, end_line, image_line
from undercroft.cli.render.progress import Progress
from undercroft.model.images import ImageReport
from undercroft.ports.reader import Reader
from undercroft.store.imagecache import IN_MEMORY, SqliteImageCache
from undercroft.usecases.assess import assessor
from undercroft.usecases.images.scanning import Done, FolderScan
from undercroft.usecases.images.walking import walk
from undercroft.usecases.paths import image_cache
from undercroft.usecases.session import start_reader

if TYPE_CHECKING:
    from undercroft.usecases.keys import KeyRing

FORMATS = ("table", "json", "yaml")
_SHORT = {"added": "-a", "domain": "-d", "connect": "-c"}
_EXTRA = ("backing", "data_file")
_MEANT = (*_EXTRA, "key")
"""The options of one machine that mean something here too."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be scanned and shown.

    Attributes:
        named: folders and images.
        extra: files that headers may pick too.
        output_format: one of `FORMATS`.
        verbose, quiet, no_sandbox, no_cache: as the options.
        gate: of --fail-on.
        as_of: of --as-of.
        keys: of --key, None without any.
    """

    named: tuple[str, ...]
    extra: tuple[str, ...]
    output_format: str
    verbose: bool
    quiet: bool
    no_sandbox: bool
    no_cache: bool
    gate: FailOn | None
    as_of: date | None
    keys: "KeyRing | None" = None


def extra_files(options: dict[str, Any]) -> tuple[str, ...]:
    """Return the files of --backing and --data-file.

    Raises:
        UsageError: an option of one machine was given.
    """
    given = [name for name, value in options.items() if value and name not in _MEANT]
    if given:
        option = _SHORT.get(given[0], f"--{given[0].replace('_', '-')}")
        raise click.UsageError(f"{option} goes with one machine, not with folders and several images")
    return tuple(path for name in _EXTRA for path in options.get(name) or ())


def scan_many(wanted: Wanted) -> int:
    """Scan, show, and return the exit code.

    Raises:
        UsageError: the format holds one machine only.
        UndercroftError: a named folder cannot be listed; there is no sandbox.
    """
    if wanted.output_format not in FORMATS:
        raise click.UsageError(f"-f {wanted.output_format} describes one machine: name one image")
    found = walk(wanted.named)
    now = datetime.now(UTC)
    shown = _Shown(wanted)
    with (
        _reader(no_sandbox=wanted.no_sandbox) as reader,
        closing(_cache(keep=not (wanted.no_cache or wanted.no_sandbox))) as cache,
        assessor(now=now, as_of=wanted.as_of) as assess,
        Progress(sys.stderr, enabled=not wanted.quiet) as progress,
    ):
        scan = FolderScan(
            reader,
            cache,
            assess,
            scanned_at=now,
            sandboxed=reader.sandboxed,
            as_of=wanted.as_of,
            extra=wanted.extra,
            progress=_Told(progress).update,
            keys=wanted.keys,
        )
        for image in scan.images(found):
            shown.put(image)
    shown.end(scan)
    for said in filter(None, (cache.problem, *_unused(scan.unused_keys), *shown.reasons)):
        click.echo(harmless(f"undercroft: {said}"), err=True)
    return shown.code


def _unused(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        yield (
            f"the key for {name} was meant for nothing: no image shows an encrypted volume of that name, UUID"
            " or label; say VOLUME=FILE or IMAGE:VOLUME=FILE"
        )


class _Told:
    """Progress in words."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._estimate = Estimate()

    def update(self, done: Done) -> None:
        """Show how far a scan is."""
        self._progress.update(done.done, done.total, self._estimate.text(done, time.monotonic()))


class _Shown:
    """What goes to stdout, and the exit code that comes of it."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._terminal = screen()
        self._overview = Overview(self._terminal, verbose=wanted.verbose)
        self._codes: set[ExitCode] = set()
        self._images = self._incomplete = 0
        self.reasons: dict[str, None] = {}

    @property
    def code(self) -> ExitCode:
        """The exit code: what is incomplete goes before what a gate refuses."""
        return next(
            (code for code in (ExitCode.INCOMPLETE, ExitCode.FINDINGS) if code in self._codes), ExitCode.CLEAN
        )

    def put(self, image: ImageReport) -> None:
        """Show one image, or take it over into the table."""
        code = exit_code(image.report, self._wanted.gate)
        self._codes.add(code)
        self._images += 1
        self._incomplete += not image.report.complete
        if reason := why(image.report, self._wanted.gate):
            self.reasons[reason] = None
        if self._wanted.output_format != "table":
            show(image_line(image, self._wanted.output_format))
            return
        if self._wanted.verbose:
            show(table.render(image.report, self._terminal, verbose=True) + "\n")
        self._overview.add(image)

    def end(self, scan: FolderScan) -> None:
        """Show what stands at the end: the table, or the line that says that this was all."""
        if not self._images or any(one.unread for one in scan.left_out):
            self._codes.add(ExitCode.INCOMPLETE)
        if not self._images:
            self.reasons["no disk image lies in what was named"] = None
        if self._wanted.output_format == "table":
            show(self._overview.text(scan.left_out))
            return
        complete = not self._incomplete and ExitCode.INCOMPLETE not in self._codes
        show(
            end_line(
                self._images, self._incomplete, scan.left_out, self._wanted.output_format, complete=complete
            )
        )


@contextmanager
def _reader(*, no_sandbox: bool) -> Iterator[Reader]:
    """Give the reader that was started early, or one of its own."""
    early: Reader | None = click.get_current_context().obj
    if early is not None and not no_sandbox:
        yield early
        return
    with closing(start_reader(sandbox=not no_sandbox)) as reader:
        yield reader


def _cache(*, keep: bool) -> SqliteImageCache:
    """Open the cache. Without the sandbox nothing is kept: no wall stood between it and the images."""
    path = image_cache(os.environ, is_root=os.geteuid() == 0) if keep else IN_MEMORY
    return SqliteImageCache(path)
