"""`undercroft release`: a machine out of quarantine, after a fresh look at it."""

from contextlib import closing
from datetime import UTC, datetime

import click

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.fleetoptions import administrator, connect_option, record_option
from undercroft.cli.options import examples, format_option, screen, show
from undercroft.cli.render import data
from undercroft.cli.render.escape import harmless


@click.command(
    short_help="Let a machine out of quarantine.",
    epilog=examples(
        "undercroft release web01 --reason 'patched, ticket 4711'",
        "undercroft release web01 --reason 'needed tonight' --anyway",
    ),
)
@click.argument("name")
@click.option("--reason", required=True, metavar="TEXT", help="Why; goes on record.")
@click.option("--anyway", is_flag=True, help="Release it although something stands against it.")
@click.option("-v", "--verbose", is_flag=True, help="List all that stands against it.")
@format_option("table", "json", "yaml")
@connect_option
@record_option
def command(
    name: str, reason: str, anyway: bool, verbose: bool, output_format: str, connect: str, database: str
) -> int:
    """Open the network of the quarantined machine NAME.

    The machine is read first: it has to be above its patch floor, and in a state that would be allowed to
    start. What stands against that is listed, and the machine stays as it is (exit code 1).
    """
    if not reason.strip():
        raise click.UsageError("--reason says why, for the record")
    from undercroft.adapters import netlink  # noqa: PLC0415 - not for --help
    from undercroft.usecases.fleet.orders.acting import acting  # noqa: PLC0415
    from undercroft.usecases.fleet.orders.examine import Order  # noqa: PLC0415
    from undercroft.usecases.fleet.orders.release import carry_out, check  # noqa: PLC0415

    with closing(acting(connect, database)) as scene:
        machine = scene.machine(name)
        with scene.examiner() as examiner:
            standing = check(scene.records, machine, examiner=examiner, now=scene.clock)
        if output_format == "table":
            from undercroft.cli.render.comeback import render_standing  # noqa: PLC0415

            show(render_standing(standing, screen(), verbose=verbose))
        else:
            show(data.render_value("undercroft/standing/1", standing, output_format))
        order = Order(administrator(), datetime.now(UTC), reason, anyway)
        carry_out(scene.records, netlink, standing, order, state=scene.places.state)
    # What the filter has closed, the agent of its host opens, which reads the record every second.
    what = "is open as soon as the agent has read the record" if standing.hold.by_filter else "is open"
    click.echo(f"{harmless(standing.name)}: its network {what}", err=True)
    return ExitCode.CLEAN
