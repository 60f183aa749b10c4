"""`undercroft host`: the hosts of one record, and what is to be done once one of them is gone for good."""

import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.fleetoptions import administrator, record_option
from undercroft.cli.options import examples, format_option, screen, show

if TYPE_CHECKING:
    from undercroft.usecases.fleet.orders.forget import Forgotten

_NAMED = 8


@click.group(
    short_help="The hosts of the record; forget one that is gone for good.",
    epilog=examples(
        "undercroft host list",
        "undercroft host forget host1 --reason 'its power supply burned, ticket 4711'",
    ),
)
def command() -> None:
    """Show the hosts of one record, and say of one that died that its machines are free to run elsewhere."""


@command.command(
    "list",
    short_help="The hosts of the record, and when each was last heard.",
    epilog=examples("undercroft host list", "undercroft host list -f json"),
)
@format_option("table", "json", "yaml")
@record_option
def list_command(output_format: str, database: str) -> int:
    """Show when each host's agent was last heard, its machines on record, and what its firewall holds.

    The record is read, not the hosts. AGENT is by the clock of its host.
    """
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415 - not for --help
    from undercroft.usecases.fleet.views.hosts import hosts_view  # noqa: PLC0415

    now = datetime.now(UTC)
    with existing_records(database) as records, records.reading() as record:
        rows = hosts_view(record, now)
    if output_format == "table":
        from undercroft.cli.render.hosts import render_hosts  # noqa: PLC0415

        show(render_hosts(rows, screen(), now, socket.gethostname()))
    else:
        from undercroft.cli.render import data  # noqa: PLC0415

        show(data.render_values("undercroft/hosts/1", "hosts", rows, output_format))
    return ExitCode.CLEAN


@command.command(
    "forget",
    short_help="Say that a host is gone for good, and its machines with it.",
    epilog=examples(
        "undercroft host forget host1 --reason 'its power supply burned, ticket 4711'",
        "undercroft host forget host1 --reason 'fenced by the cluster' --anyway",
    ),
)
@click.argument("host")
@click.option("--reason", required=True, metavar="TEXT", help="Why; goes on record.")
@click.option("--anyway", is_flag=True, help="Forget it although its agent was heard just now.")
@record_option
def forget_command(host: str, reason: str, anyway: bool, database: str) -> int:
    """Take out of the record what it has of HOST as being there: machines, live executions, its filter.

    What runs elsewhere in the place of its machines then has their UUIDs, MACs and addresses. Switch HOST off
    before: where its machines still run, two run with the same. Histories, decisions and the log stay. If
    HOST comes back, its agent puts its machines back, and they have what nobody else has by then.

    Exit code 1: its agent was heard just now, or it is this very host. 3: there is nothing on record of it.
    """
    if not reason.strip():
        raise click.UsageError("--reason says why, for the record")
    from undercroft.usecases.fleet.orders.examine import Order  # noqa: PLC0415 - not for --help
    from undercroft.usecases.fleet.orders.forget import forget  # noqa: PLC0415
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415

    order = Order(administrator(), datetime.now(UTC), reason, anyway)
    with existing_records(database) as records, records.transaction() as record:
        found = forget(record, host, order, socket.gethostname())
    _tell(found)
    return ExitCode.CLEAN


def _tell(found: "Forgotten") -> None:
    """Say what is no longer there, and which machines are another host's now."""
    from undercroft.cli.render import words  # noqa: PLC0415 - not for --help
    from undercroft.cli.render.escape import harmless  # noqa: PLC0415

    machines, live = words.count(found.machines, "machine"), words.count(found.executions, "live execution")
    click.echo(f"{harmless(found.host)} is forgotten, with {machines} and {live} on record there", err=True)
    for one in found.elsewhere[:_NAMED]:
        click.echo(f"{harmless(one.name)}: it is on {harmless(one.host)} from now on", err=True)
    if (more := len(found.elsewhere) - _NAMED) > 0:
        click.echo(f"and {more:,} more machines that are on other hosts too", err=True)
