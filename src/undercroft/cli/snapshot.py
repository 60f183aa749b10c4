"""`undercroft snapshot`: a snapshot of a guest that stands still."""

from contextlib import closing
from typing import TYPE_CHECKING

import click

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.fleetoptions import administrator, connect_option, record_option
from undercroft.cli.options import examples, format_option, show
from undercroft.cli.render import data
from undercroft.cli.render.escape import harmless

if TYPE_CHECKING:
    from undercroft.usecases.fleet.orders.snapshot import Taken


@click.command(
    short_help="Take a snapshot of a guest that stands still, so that nothing in it repeats.",
    epilog=examples("undercroft snapshot web01 before-upgrade", "undercroft snapshot web01 old --exposed"),
)
@click.argument("name")
@click.argument("snapshot")
@click.option("--exposed", is_flag=True, help="Take it although its guest cannot stand still.")
@format_option("table", "json", "yaml")
@connect_option
@record_option
def command(name: str, snapshot: str, exposed: bool, output_format: str, connect: str, database: str) -> int:
    """Take SNAPSHOT of the machine NAME, with its RAM where it runs.

    All but the helper of a running guest stands still meanwhile, and goes on with fresh randomness: whoever
    resumes the snapshot draws nothing that was drawn before. A guest without the helper is refused; --exposed
    takes the snapshot all the same, and every resume of it draws the same numbers. Exit code 4: it was taken,
    and its guest did not stand still all the time, or has not confirmed a fresh seed since.
    """
    from undercroft.adapters.guestservice import GuestService  # noqa: PLC0415 - not for --help
    from undercroft.usecases.fleet.orders.acting import acting  # noqa: PLC0415
    from undercroft.usecases.fleet.orders.snapshot import Means, take_cold, take_quiesced  # noqa: PLC0415

    with closing(acting(connect, database)) as scene:
        domain = scene.machine(name).domain
        means = Means(scene.records, scene.fleet, scene.survey.host, scene.clock)
        if exposed or not domain.power.has_process:
            taken = take_cold(means, domain, snapshot, administrator())
        else:
            with (
                GuestService.connect(scene.places.guest_socket) as guests,
                guests.watch() as watch,
            ):
                taken = take_quiesced(means, domain, snapshot, administrator(), guests, watch)
    if output_format == "table":
        click.echo(f"{harmless(domain.name)}: {_told(taken)}", err=True)
    else:
        show(data.render_value("undercroft/snapshot/1", taken, output_format, machine=domain.uuid))
    whole = taken.fresh and (taken.quiesced or taken.cold or exposed)
    return ExitCode.CLEAN if whole else ExitCode.INCOMPLETE


def _told(taken: "Taken") -> str:
    name = f"snapshot {harmless(taken.snapshot.name)!r}"
    if taken.cold:
        return f"{name} is taken; it was off, so that no RAM is in it"
    if not taken.quiesced:
        return f"{name} is taken, and exposed: whoever resumes it draws the same random numbers"
    fresh = "it goes on with fresh randomness" if taken.fresh else "it has not confirmed fresh randomness yet"
    stood = "1 process" if taken.processes == 1 else f"{taken.processes} processes"
    return f"{name} is taken; {stood} stood still for {taken.frozen_ms} ms; {fresh}"
