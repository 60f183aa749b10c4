"""`undercroft fleet`: every machine in every state, with its verdict."""

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import click

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.fleetoptions import record_option
from undercroft.cli.options import examples, format_option, screen, show
from undercroft.cli.render import data
from undercroft.model.verdict import SubjectKind, Verdict
from undercroft.usecases.fleet.views.existing import existing_records
from undercroft.usecases.fleet.views.values import FleetRow


class FailOn(StrEnum):
    """What `--fail-on` refuses. DRIFTING: quarantined, too. UNKNOWN: what nobody could judge.

    ALARM: a row with an alarm, whatever its verdict.
    """

    DRIFTING = "drifting"
    QUARANTINED = "quarantined"
    UNKNOWN = "unknown"
    ALARM = "alarm"


_REFUSED = {
    FailOn.DRIFTING: frozenset({Verdict.DRIFTING, Verdict.QUARANTINED}),
    FailOn.QUARANTINED: frozenset({Verdict.QUARANTINED}),
    FailOn.UNKNOWN: frozenset({Verdict.UNKNOWN}),
    FailOn.ALARM: frozenset[Verdict](),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are wanted; what is empty wants all.

    Attributes:
        verdicts, kinds: any of these.
        label, owner, host: exactly this.
        name: a shell pattern for the name of the machine, snapshot or image, whatever its case.
    """

    verdicts: frozenset[Verdict] = frozenset()
    kinds: frozenset[SubjectKind] = frozenset()
    label: str = ""
    owner: str = ""
    host: str = ""
    name: str = ""

    def rows(self, rows: Iterable[FleetRow]) -> tuple[FleetRow, ...]:
        """Return the wanted rows in their order."""
        return tuple(row for row in rows if self._wants(row))

    def _wants(self, row: FleetRow) -> bool:
        machine = row.name.removesuffix(f"@{row.state}")
        return (
            row.verdict in (self.verdicts or {row.verdict})
            and row.kind in (self.kinds or {row.kind})
            and (not self.label or self.label in row.labels)
            and (not self.owner or self.owner == row.owner)
            and (not self.host or self.host == row.host)
            and (
                not self.name
                or any(fnmatch.fnmatchcase(n.casefold(), self.name.casefold()) for n in (row.name, machine))
            )
        )


def exit_code(rows: Sequence[FleetRow], fail_on: FailOn | None = None) -> ExitCode:
    """Return what rows come to; give those that are shown as rows, not what is folded into a line.

    What is unknown, or was not read whole and is not steady all the same, comes before what `fail_on` names:
    there may be more that nobody could see. `FailOn.UNKNOWN` makes just that a failure.
    """
    refused = _REFUSED[fail_on] if fail_on else frozenset[Verdict]()
    unseen = [
        row
        for row in rows
        if row.verdict is Verdict.UNKNOWN or (not row.complete and row.verdict is not Verdict.STEADY)
    ]
    if fail_on is FailOn.UNKNOWN and unseen:
        return ExitCode.FINDINGS
    if unseen:
        return ExitCode.INCOMPLETE
    alarmed = fail_on is FailOn.ALARM and any(row.alarms for row in rows)
    found = alarmed or any(row.verdict in refused for row in rows)
    return ExitCode.FINDINGS if found else ExitCode.CLEAN


@click.command(
    short_help="Every machine in every state, with its verdict.",
    epilog=examples(
        "undercroft fleet",
        "undercroft fleet --verdict drifting --label prod",
        "undercroft fleet --kind snapshot --name 'web*' -f json",
        "undercroft fleet --fail-on quarantined -q",
        "undercroft fleet --snapshots --fail-on alarm",
    ),
)
@click.option(
    "--verdict",
    "verdicts",
    multiple=True,
    type=click.Choice([verdict.value for verdict in Verdict]),
    help="Only what has this verdict; repeatable.",
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([kind.value for kind in SubjectKind]),
    help="Only things of this kind; repeatable.",
)
@click.option("--label", default="", help="Only machines with this label.")
@click.option("--owner", default="", help="Only machines of this owner.")
@click.option("--name", default="", metavar="GLOB", help="Only these names: 'web*', '*@before-*'.")
@click.option("--host", default="", help="Only what lies on this host.")
@click.option("--snapshots", is_flag=True, help="A row for each snapshot.")
@format_option("table", "json", "yaml")
@click.option("-q", "--quiet", is_flag=True, help="No output, only the exit code.")
@click.option(
    "--fail-on",
    type=click.Choice([gate.value for gate in FailOn]),
    help="Exit with 6 when a row shown has this verdict, or an alarm; drifting covers quarantined.",
)
@record_option
def command(
    verdicts: tuple[str, ...],
    kinds: tuple[str, ...],
    label: str,
    owner: str,
    name: str,
    host: str,
    snapshots: bool,
    output_format: str,
    quiet: bool,
    fail_on: str | None,
    database: str,
) -> int:
    """Show machines, templates, images of no machine and snapshots, the worst first.

    The record is read, not the machines: `undercroft up` keeps it. START says what a start would meet, READ
    when the disks were last read. Exit code 4: a row shown is unknown or was not read whole. Snapshots
    that are folded into a line below their machine do not count; with --snapshots, json and yaml they do.
    """
    from undercroft.usecases.fleet.views.fleet import fleet_view  # noqa: PLC0415 - not for --help

    wanted = Filter(
        frozenset(map(Verdict, verdicts)), frozenset(map(SubjectKind, kinds)), label, owner, host, name
    )
    with existing_records(database) as records, records.reading() as record:
        view = fleet_view(record, datetime.now(UTC))
    rows = wanted.rows(view.rows)
    if not quiet:
        if output_format == "table":
            from undercroft.cli.render.fleet import render_fleet  # noqa: PLC0415

            show(render_fleet(view, rows, screen(), snapshots=snapshots))
        else:
            show(data.render_fleet(view, rows, output_format))
    if output_format == "table" and not snapshots:
        from undercroft.cli.render.fleet import unfolded  # noqa: PLC0415

        rows = unfolded(rows)
    return exit_code(rows, FailOn(fail_on) if fail_on else None)
