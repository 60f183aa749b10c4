"""Lists for people: the packages of a state, files as `ls -l` shows them, the advisories' sources."""

import stat
from collections.abc import Sequence
from datetime import datetime

from undercroft.cli.render import sections, words
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.page import Column, Page, Span, Spans, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.model.finding import FeedStatus
from undercroft.model.inventory import Inventory, Package
from undercroft.model.job import FileEntry

_NOT_SIGNED = "not signed"
_ENDLESS_S = 5 * 365 * 86_400
"""What is valid for longer than this does not age: a changelog stays true."""
_PACKAGE_COLUMNS = (
    Column("PACKAGE", flexible=True, whole=True),
    Column("VERSION", flexible=True, whole=True),
    Column("ARCH"),
    Column("MANAGER"),
    Column("SOURCE", flexible=True, whole=True),
    Column("STATUS", idle="installed"),
)
_FILE_COLUMNS = (
    Column(""),
    Column("", right=True),
    Column("", right=True),
    Column("", right=True),
    Column(""),
    Column(""),
)
_FEED_COLUMNS = (
    Column("SOURCE"),
    Column("RECORDS", right=True),
    Column("PUBLISHED", right=True),
    Column("FETCHED", right=True),
    Column("SERIAL", flexible=True, optional=True),
    Column("VALID UNTIL"),
    Column("SIGNED BY", flexible=True, optional=True, idle=_NOT_SIGNED),
)
_KIND_MODES = {
    "regular": stat.S_IFREG,
    "directory": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "character": stat.S_IFCHR,
    "block": stat.S_IFBLK,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
}


def render_packages(inventory: Inventory, terminal: Terminal, title: str = "") -> str:
    """Return the packages of one state below its system and kernels, then what was not read.

    Of which manager each is, is told where there are several.
    `title` is what the user calls the state ("web01.qcow2@before-upgrade").
    """
    page = Page(terminal)
    if title:
        page.paragraph(span(escape(title), Style.HEADING))
    if inventory.os is not None or inventory.packages:
        page.paragraph(span(sections.system(inventory)), hang=2)
        page.paragraph(span(sections.kernels(inventory)), hang=2)
    page.blank()
    if inventory.packages:
        mixed = len({package.manager for package in inventory.packages}) > 1
        rows = [_package(package) for package in inventory.packages]
        page.grid(_PACKAGE_COLUMNS, rows, without="" if mixed else "MANAGER")
    else:
        page.paragraph(span("No package was found.", Style.WARNING))
    if inventory.coverage.problems:
        page.heading(span("INCOMPLETE", Style.WARNING), span("  packages may be missing", Style.DIM))
        for problem in inventory.coverage.problems:
            page.paragraph(span(harmless(problem)), indent=2, hang=2)
    return page.text()


def render_files(entries: Sequence[FileEntry], terminal: Terminal) -> str:
    """Return one line per file: mode, owner, group, size in bytes, time of change in UTC, name."""
    page = Page(terminal)
    if entries:
        page.grid(_FILE_COLUMNS, [_file(entry, terminal) for entry in entries])
    return page.text()


def render_feeds(statuses: Sequence[FeedStatus], terminal: Terminal, now: datetime) -> str:
    """Return the advisories' sources as the database holds them, or how to get some."""
    page = Page(terminal)
    if not statuses:
        page.paragraph(
            span("No advisories yet: run 'undercroft feeds update', or 'undercroft feeds import PATH'.")
        )
    else:
        page.grid(_FEED_COLUMNS, [_feed(status, now) for status in statuses])
    return page.text()


def _package(package: Package) -> Spans:
    source = package.source if package.source != package.name else ""
    if package.source_version != package.version:
        source = f"{package.source} {package.source_version}"
    return [
        span(escape(package.name), Style.HEADING),
        span(escape(package.version)),
        span(escape(package.architecture), Style.DIM),
        span(escape(package.manager), Style.DIM),
        span(escape(source), Style.DIM),
        span(escape(package.status), Style.DIM if package.status == "installed" else Style.WARNING),
    ]


def _file(entry: FileEntry, terminal: Terminal) -> Spans:
    mode = stat.S_IMODE(entry.mode) | _KIND_MODES.get(entry.kind, 0)
    target = f" {terminal.arrow} {escape(entry.target)}" if entry.target else ""
    return [
        Span(stat.filemode(mode)),
        Span(str(entry.uid)),
        Span(str(entry.gid)),
        Span(str(entry.size_bytes)),
        Span(words.moment(entry.modified_at_s)),
        Span(escape(entry.name) + target, Style.NAME if entry.kind == "directory" else Style.PLAIN),
    ]


def _feed(status: FeedStatus, now: datetime) -> Spans:
    endless = (status.valid_until - status.fetched_at).total_seconds() > _ENDLESS_S
    valid = "-" if endless else f"{status.valid_until:%Y-%m-%d %H:%M}"
    return [
        span(escape(status.name), Style.HEADING),
        span(f"{status.records:,}"),
        span(sections.since(status.published_at, now) or "-"),
        span(sections.since(status.fetched_at, now)),
        span(escape(status.serial), Style.DIM),
        span(f"{valid} (too old)" if status.stale else valid, Style.BAD if status.stale else Style.PLAIN),
        span(escape(status.signed_by) or _NOT_SIGNED, Style.DIM if status.signed_by else Style.WARNING),
    ]
