"""`undercroft channel`: the channel beneath a guest: give it one, and see who has fresh randomness."""

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.fleetoptions import administrator, connect_option, record_option
from undercroft.cli.options import examples, format_option, screen, show
from undercroft.cli.render.escape import harmless
from undercroft.errors import UndercroftError

if TYPE_CHECKING:
    from undercroft.ports.fleet import ChannelEnabled


@click.group(
    short_help="The channel beneath a guest: enable it, and who has fresh randomness.",
    epilog=examples("undercroft channel enable web01", "undercroft channel status"),
)
def command() -> None:
    """Give machines a channel to what runs beneath them, and show which guests have fresh randomness."""


@command.command(
    "enable",
    short_help="Give machines a channel, plugged in where that is possible.",
    epilog=examples("undercroft channel enable web01 web02"),
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@connect_option
@record_option
def enable_command(names: tuple[str, ...], connect: str, database: str) -> int:
    """Add the channel to the definition of each machine NAME, and plug it in where it runs.

    What is there already stays as it is. In the guest, `undercroft-guest` answers at it. Exit code 1: one of
    the machines could not be changed; the others were.
    """
    from undercroft.usecases.fleet.orders.acting import acting  # noqa: PLC0415 - not for --help
    from undercroft.usecases.fleet.orders.channel import enable  # noqa: PLC0415

    failed = False
    with closing(acting(connect, database)) as scene:
        machines = [scene.machine(name) for name in dict.fromkeys(names)]
        for machine in machines:
            name = harmless(machine.domain.name)
            try:
                now = datetime.now(UTC)
                done = enable(scene.records, scene.fleet, machine, by=administrator(), now=now)
            except UndercroftError as error:
                failed = True
                click.echo(f"undercroft: error: {harmless(str(error))}", err=True)
                continue
            click.echo(f"{name}: {_told(done, runs=machine.domain.power.has_process)}", err=True)
    return ExitCode.ERROR if failed else ExitCode.CLEAN


def _told(done: "ChannelEnabled", *, runs: bool) -> str:
    if done.problem:
        said = "its definition has the channel" if done.defined else "its definition had the channel already"
        return f"{said}; it counts from the next cold start: {harmless(done.problem)}"
    if done.plugged:
        return "the channel is plugged in, and in its definition"
    if done.defined:
        return "its definition has the channel" + ("" if runs else "; it counts from the next start")
    return "it has the channel already"


@command.command(
    "status",
    short_help="Which guests have fresh randomness.",
    epilog=examples("undercroft channel status", "undercroft channel status web01 -f json"),
)
@click.argument("name", required=False, default="")
@format_option("table", "json", "yaml")
@record_option
def status_command(name: str, output_format: str, database: str) -> int:
    """Show how each machine of the record, or NAME, stands beneath its guest, worst first.

    `protected`: its helper has confirmed a fresh seed in this execution, and answers. GENID tells what a
    guest without that has of libvirt's own means: `<genid/>` in its definition, and a driver in its kernel.
    """
    from undercroft.usecases.fleet.views.channels import channel_rows  # noqa: PLC0415 - not for --help
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415
    from undercroft.usecases.fleet.views.machine import find_machine  # noqa: PLC0415

    now = datetime.now(UTC)
    with existing_records(database) as records, records.reading() as record:
        machines = (find_machine(record, name),) if name else record.machines()
        rows = channel_rows(record, machines)
    if output_format == "table":
        from undercroft.cli.render.channels import render_channels  # noqa: PLC0415

        show(render_channels(rows, screen(), now))
    else:
        from undercroft.cli.render import data  # noqa: PLC0415

        show(data.render_values("undercroft/channels/1", "machines", rows, output_format))
    return ExitCode.CLEAN
