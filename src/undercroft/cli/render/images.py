"""Many images for people, a row for each state, the worst first; and for programs, a line for each image.

A page holds the rows' texts alone, so that what was read of one image can go before the next one comes.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from json.encoder import JSONEncoder
from typing import Any

from undercroft.cli.render import overview, sections, words
from undercroft.cli.render.data import scan_document
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.known import causes, nothing_read
from undercroft.cli.render.page import Keep, Page, cut, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.model.finding import FeedStatus, Severity
from undercroft.model.images import ImageReport, LeftOut, Role
from undercroft.model.report import CURRENT, StateReport

LISTED = 8
"""Lines that a section has before it says how many more there are; -v has all."""

NAMED = 3
MAX_PROBLEMS = 10_000
NAME_SHARE = 3
"""A name takes at most a third of a terminal's line."""


@dataclass(slots=True)
class _Problem:
    names: list[str] = field(default_factory=list)
    count: int = 0


class Overview:
    """The table of many images in the making.

    Args:
        terminal: where it goes.
        verbose: list all that was left out.
    """

    def __init__(self, terminal: Terminal, *, verbose: bool = False) -> None:
        self._terminal = terminal
        self._verbose = verbose
        self._rows: list[tuple[tuple[int, ...], str, str, overview.Row]] = []
        self._problems: dict[str, _Problem] = {}
        self._warnings: list[tuple[str, str]] = []
        self._roles: Counter[Role] = Counter()
        self._unread = 0
        self._shared = 0
        self._kept = 0
        self._feeds: tuple[FeedStatus, ...] = ()
        self._scanned_at = ""
        self._latest: ImageReport | None = None

    def add(self, image: ImageReport) -> None:
        """Take over one image."""
        report = image.report
        self._latest = image
        self._roles[image.role] += 1
        self._shared += bool(image.shared)
        self._kept += image.kept
        self._unread += all(nothing_read(state) for state in report.states)
        self._feeds = self._feeds or report.feeds
        self._warnings += [(image.path, warning) for warning in report.warnings]
        for state in report.states:
            label = _label(state)
            shown = overview.row(label, state)
            self._rows.append((_badness(state), image.path, label, shown))
            for problem in causes(state):
                self._note(harmless(problem), image.path, label)

    def text(self, left_out: Sequence[LeftOut]) -> str:
        """Return the table, with what was left out of it."""
        page = Page(self._terminal)
        folder = _common([path for _badness, path, _label, _row in self._rows])
        self._summary(page, folder, left_out)
        if self._rows:
            page.blank()
            self._rows.sort(key=lambda row: row[:2])  # a stable sort: the states of an image stay in order
            rows = [self._named(folder, path, label, row) for _badness, path, label, row in self._rows]
            overview.grid(page, rows, "IMAGE")
        self._incomplete(page, folder)
        self._left_out(page, folder, left_out)
        self._warned(page, folder)
        page.blank()
        if self._latest is not None:
            sections.feeds(page, self._feeds, self._latest.report.scanned_at)
        return page.text()

    def _note(self, problem: str, path: str, label: str) -> None:
        if problem not in self._problems and len(self._problems) >= MAX_PROBLEMS:
            problem = "and other problems; scan an image alone to see them"
        found = self._problems.setdefault(problem, _Problem())
        found.count += 1
        if len(found.names) <= NAMED:
            found.names.append(path + label)

    def _summary(self, page: Page, folder: str, left_out: Sequence[LeftOut]) -> None:
        images = sum(self._roles.values())
        parts = [
            words.count(self._roles[Role.MACHINE], "machine"),
            words.count(self._roles[Role.BASE], "base"),
        ]
        if self._shared:
            parts.append(f"{self._shared:,} proven to hold what their base holds")
        if self._kept:
            parts.append(f"{self._kept:,} unchanged since an earlier scan")
        if self._unread:
            parts.append(f"{self._unread:,} unread")
        if left_out:
            parts.append(f"{len(left_out):,} left out")
        page.paragraph(
            span(escape(folder) or words.count(images, "image"), Style.HEADING),
            span(f"  {words.count(images, 'image')}: {', '.join(parts)}", Style.DIM),
            hang=2,
        )
        if self._latest is not None:
            report = self._latest.report
            as_of = f", advisories as of {report.as_of}" if report.as_of else ""
            page.paragraph(span(f"{report.scanned_at:%Y-%m-%d %H:%M}{as_of}", Style.DIM), indent=2)
            if not report.sandboxed:
                page.paragraph(
                    span("warning: ", Style.WARNING),
                    span("read without the sandbox (--no-sandbox)"),
                    indent=2,
                )

    def _named(self, folder: str, path: str, label: str, row: overview.Row) -> overview.Row:
        name = escape(_below(folder, path)) + label
        if self._terminal.width is not None:
            name = cut(name, self._terminal.width // NAME_SHARE, self._terminal.ellipsis, keep=Keep.TAIL)
        return overview.Row(name, row.mark, row.cells)

    def _incomplete(self, page: Page, folder: str) -> None:
        if not self._problems:
            return
        page.heading(span("INCOMPLETE", Style.WARNING))
        items = list(self._problems.items())
        for problem, found in items if self._verbose else items[: LISTED + 1]:
            names = [escape(_below(folder, name)) for name in found.names[:NAMED]]
            more = f" and {found.count - NAMED:,} more" if found.count > NAMED else ""
            page.paragraph(
                span(f"{', '.join(names)}{more}: ", Style.HEADING), span(problem), indent=2, hang=2
            )
        _and_more(page, len(items), verbose=self._verbose)

    def _left_out(self, page: Page, folder: str, left_out: Sequence[LeftOut]) -> None:
        if not left_out:
            return
        page.heading(span("LEFT OUT", Style.HEADING))
        ordered = sorted(left_out, key=lambda one: (not one.unread, one.path))
        for one in ordered if self._verbose else ordered[: LISTED + 1]:
            style = Style.WARNING if one.unread else Style.DIM
            page.paragraph(
                span(f"{escape(_below(folder, one.path))}: ", style),
                span(harmless(one.why)),
                indent=2,
                hang=2,
            )
        _and_more(page, len(ordered), verbose=self._verbose)

    def _warned(self, page: Page, folder: str) -> None:
        for path, warning in self._warnings if self._verbose else self._warnings[: LISTED + 1]:
            page.paragraph(
                span("warning: ", Style.WARNING),
                span(f"{escape(_below(folder, path))}: {harmless(warning)}"),
                hang=2,
            )
        _and_more(page, len(self._warnings), verbose=self._verbose)


def image_line(image: ImageReport, output_format: str) -> str:
    """Return one image as a line of JSON, or a document of a YAML stream ("undercroft/image/1")."""
    document = {
        "schema": "undercroft/image/1",
        "complete": image.report.complete,
        "path": escape(image.path),
        "role": image.role.value,
        "shared": escape(image.shared) if image.shared else None,
        "kept": image.kept,
        "scan": scan_document(image.report),
    }
    return _line(document, output_format)


def end_line(
    images: int, incomplete: int, left_out: Sequence[LeftOut], output_format: str, *, complete: bool
) -> str:
    """Return the last line ("undercroft/images/1"): a stream without it was cut off."""
    document = {
        "schema": "undercroft/images/1",
        "complete": complete,
        "images": images,
        "incomplete": incomplete,
        "left_out": [
            {"path": escape(one.path), "why": harmless(one.why), "unread": one.unread} for one in left_out
        ],
    }
    return _line(document, output_format)


def _line(document: dict[str, Any], output_format: str) -> str:
    if output_format == "json":
        return JSONEncoder().encode(document) + "\n"
    import yaml  # noqa: PLC0415 - only where YAML is asked for

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(document, Dumper=dumper, sort_keys=False, width=110, explicit_start=True)
    return text


def _badness(state: StateReport) -> tuple[int, ...]:
    """Return what orders rows: known to be exploited, critical, high, what nobody knows, then the rest."""
    found = state.assessment.findings if state.assessment else ()
    severities = Counter(finding.severity for finding in found)
    exploited = sum(finding.known_exploited_on is not None for finding in found)
    return (
        -exploited,
        -severities[Severity.CRITICAL],
        -severities[Severity.HIGH],
        int(not nothing_read(state)),
        -severities[Severity.UNKNOWN],
        -severities[Severity.MEDIUM],
        int(state.complete),
        -len(found),
    )


def _label(state: StateReport) -> str:
    """Return what stands behind the image's name: nothing for its current state."""
    if not state.ident:
        return ""
    twice = state.name in ("", CURRENT)
    return f"@{escape(state.name)} (ID {escape(state.ident)})" if twice else f"@{escape(state.name)}"


def _common(paths: Sequence[str]) -> str:
    """Return the folder that all paths lie in, "" for none."""
    folders = {os.path.dirname(path) for path in paths}
    if not folders or "" in folders or len({os.path.isabs(folder) for folder in folders}) > 1:
        return ""
    return os.path.commonpath(sorted(folders))


def _below(folder: str, path: str) -> str:
    return path.removeprefix(folder.rstrip("/") + "/") if folder else path


def _and_more(page: Page, count: int, *, verbose: bool) -> None:
    if not verbose and count > LISTED + 1:
        page.paragraph(span(f"and {count - LISTED - 1:,} more; -v lists them", Style.DIM), indent=2)
