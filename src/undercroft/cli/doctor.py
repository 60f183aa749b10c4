"""`undercroft doctor`: can this host enforce, and what is to be done where it cannot?"""

import os
import socket
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from undercroft.adapters.hookfiles import HOOKS_FOLDER
from undercroft.assurance.firewall.hostfacts import Surroundings
from undercroft.cli.exitcode import ExitCode
from undercroft.cli.fleetoptions import connect_option, record_option
from undercroft.cli.options import examples, format_option, screen, show
from undercroft.cli.render import data
from undercroft.cli.render.escape import harmless
from undercroft.cli.render.page import Page, span
from undercroft.cli.render.terminal import Style
from undercroft.model.domain import Survey
from undercroft.model.filter import AppliedPolicy, FilterState
from undercroft.model.finding import FeedStatus
from undercroft.ports.packetfilter import FilterFeatures, TableName
from undercroft.usecases.fleet.doctor.check import examine
from undercroft.usecases.fleet.doctor.checkup import CheckedHost
from undercroft.usecases.fleet.doctor.filter import FilterHost
from undercroft.usecases.fleet.doctor.health import Check, Health
from undercroft.usecases.fleet.places import Places
from undercroft.usecases.fleet.verdicts.policyfile import read_policy
from undercroft.usecases.fleet.views.existing import existing_records
from undercroft.usecases.paths import readable_database

_GUEST_SERVICE_S = 5.0
_STYLES = {
    Health.OK: Style.GOOD,
    Health.WARN: Style.WARNING,
    Health.FAIL: Style.BAD,
    Health.UNKNOWN: Style.WARNING,
}


def exit_code(checks: Sequence[Check]) -> ExitCode:
    """Return 1 where something fails, 4 where something could not be looked at, else 0."""
    found = {check.health for check in checks}
    if Health.FAIL in found:
        return ExitCode.ERROR
    return ExitCode.INCOMPLETE if Health.UNKNOWN in found else ExitCode.CLEAN


@click.command(
    short_help="Whether this host can enforce, and how to mend what is missing.",
    epilog=examples("undercroft doctor", "undercroft doctor -f json"),
)
@format_option("table", "json", "yaml")
@click.option("-q", "--quiet", is_flag=True, help="Only what is not in order.")
@connect_option
@record_option
def command(output_format: str, quiet: bool, connect: str, database: str) -> int:
    """Look at everything that enforcement on this host rests on, and say how to mend what is missing.

    Nothing is changed. Exit code 1: something fails; 4: something could not be looked at.
    """
    checks = examine(_host(connect, database))
    shown = tuple(check for check in checks if not quiet or check.health is not Health.OK)
    if output_format == "table":
        show(_rendered(shown))
    else:
        can = exit_code(checks) is ExitCode.CLEAN
        show(data.render_values("undercroft/doctor/1", "checks", shown, output_format, able=can))
    return exit_code(checks)


def _host(connect: str, database: str) -> CheckedHost:
    from contextlib import closing  # noqa: PLC0415 - not for --help

    from undercroft.adapters.libvirt.version import daemon_version  # noqa: PLC0415
    from undercroft.usecases.session import start_reader  # noqa: PLC0415

    places = Places.default()

    def clock() -> datetime:
        return datetime.now(UTC)

    return CheckedHost(
        places=places,
        hooks=HOOKS_FOLDER,
        run=Path("/run"),
        version=lambda: daemon_version(connect),
        survey=lambda: _survey(connect),
        records=lambda: existing_records(database),
        policy=lambda: read_policy(places.policy, clock().date(), places.kept_policy),
        feeds=lambda: _feeds(clock()),
        reader=lambda: closing(start_reader()),
        clock=clock,
        filter=_filter(database),
        guests=lambda: _guest_service(places),
    )


def _filter(database: str) -> FilterHost:
    from undercroft.adapters.bridgeports import bridge_ports  # noqa: PLC0415 - not for --help
    from undercroft.adapters.nftables import Nftables  # noqa: PLC0415
    from undercroft.adapters.surroundings import gather, machine_taps  # noqa: PLC0415
    from undercroft.usecases.firewall.machines import macs_here  # noqa: PLC0415

    host = socket.gethostname()

    def features() -> FilterFeatures:
        with Nftables() as kernel:
            return kernel.features()

    def tables() -> tuple[TableName, ...]:
        with Nftables() as kernel:
            return kernel.tables()

    def applied() -> tuple[AppliedPolicy | None, FilterState | None]:
        with existing_records(database) as records, records.reading() as record:
            return record.applied_policy(), record.filter_state(host)

    def macs() -> Mapping[str, bytes]:
        with existing_records(database) as records, records.reading() as record:
            return macs_here(record, host)

    def around(table: str, taps: Collection[str], priorities: Collection[tuple[str, int]]) -> Surroundings:
        return gather(table, taps, priorities, macs())

    return FilterHost(host, features, tables, machine_taps, around, bridge_ports, applied)


def _guest_service(places: Places) -> Mapping[str, object]:
    from undercroft.adapters.guestservice import GuestService  # noqa: PLC0415 - not for --help

    with GuestService.connect(places.guest_socket, _GUEST_SERVICE_S) as guests:
        return guests.status()


def _survey(connect: str) -> Survey:
    from undercroft.adapters.libvirt.fleet import LibvirtFleet  # noqa: PLC0415 - libvirt, only when used

    with LibvirtFleet(connect) as fleet:
        return fleet.survey()


def _feeds(now: datetime) -> Sequence[FeedStatus]:
    from undercroft.store.database import AdvisoryDatabase  # noqa: PLC0415 - not for --help

    path = readable_database(os.environ, is_root=os.geteuid() == 0)
    with AdvisoryDatabase(path) as database:
        return database.feeds(now)


def _rendered(checks: Sequence[Check]) -> str:
    page = Page(screen())
    for check in checks:
        found, *more = check.found.split("\n")
        page.paragraph(
            span(f"{check.health:<9}", _STYLES[check.health]),
            span(harmless(check.name), Style.HEADING),
            span(f"  {harmless(found)}"),
            hang=9,
        )
        for line in more:
            page.paragraph(span(harmless(line)), indent=11)
        if check.cure and check.health is not Health.OK:
            page.paragraph(span(f"-> {harmless(check.cure)}", Style.DIM), indent=9, hang=3)
    return page.text()
