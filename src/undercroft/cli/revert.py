"""`undercroft revert`: what a snapshot would bring back, and the revert where nothing stands against it."""

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.fleetoptions import administrator, connect_option, record_option
from undercroft.cli.options import examples, format_option, screen, show
from undercroft.cli.render import data
from undercroft.cli.render.escape import harmless
from undercroft.errors import DeniedError
from undercroft.model.verdict import Action

if TYPE_CHECKING:
    from undercroft.model.comeback import Comeback


@click.command(
    short_help="Check what a snapshot would bring back, then revert.",
    epilog=examples(
        "undercroft revert web01 before-upgrade --dry-run",
        "undercroft revert web01 before-upgrade",
        "undercroft revert web01 before-upgrade --anyway --reason 'ticket 4711'",
    ),
)
@click.argument("name")
@click.argument("snapshot")
@click.option("--anyway", is_flag=True, help="Revert although it is refused; needs --reason.")
@click.option("--reason", default="", metavar="TEXT", help="Why; goes on record.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would come back and the answer, and stop.")
@click.option("--paused", is_flag=True, help="Leave the machine paused.")
@click.option("-v", "--verbose", is_flag=True, help="List all that would come back.")
@format_option("table", "json", "yaml")
@connect_option
@record_option
def command(
    name: str,
    snapshot: str,
    anyway: bool,
    reason: str,
    dry_run: bool,
    paused: bool,
    verbose: bool,
    output_format: str,
    connect: str,
    database: str,
) -> int:
    """Revert the machine NAME to SNAPSHOT, unless that brings back what was fixed.

    The present state and the snapshot are read first. A refused revert leaves the running machine as it is.
    Exit code 1: refused. 4: refused, since it could not be judged. A revert into quarantine is carried out;
    `undercroft up` closes the network.
    """
    if anyway and not reason.strip():
        raise click.UsageError("--anyway goes with --reason TEXT, which goes on record")
    from undercroft.usecases.fleet.orders.acting import acting  # noqa: PLC0415 - not for --help
    from undercroft.usecases.fleet.orders.examine import Order  # noqa: PLC0415
    from undercroft.usecases.fleet.orders.revert import carry_out, check  # noqa: PLC0415

    with closing(acting(connect, database)) as scene:
        machine = scene.machine(name)
        with scene.examiner() as examiner:
            comeback = check(scene.records, machine, snapshot, examiner=examiner, now=scene.clock)
        _show(comeback, output_format, verbose=verbose)
        if dry_run:
            return _answer(comeback)
        order = Order(administrator(), datetime.now(UTC), reason, anyway)
        try:
            carry_out(scene.records, scene.fleet, comeback, order, paused=paused, tell=_tell)
        except DeniedError as error:
            click.echo(f"undercroft: error: {harmless(str(error))}", err=True)
            return _answer(comeback)
    click.echo(f"{harmless(comeback.name)}: reverted to {harmless(snapshot)!r}", err=True)
    return ExitCode.CLEAN


def _show(comeback: "Comeback", output_format: str, *, verbose: bool) -> None:
    if output_format == "table":
        from undercroft.cli.render.comeback import render_comeback  # noqa: PLC0415

        show(render_comeback(comeback, screen(), verbose=verbose))
        return
    complete = not comeback.problems and not comeback.credentials.problems
    show(data.render_value("undercroft/comeback/1", comeback, output_format, complete=complete))


def _tell(line: str) -> None:
    click.echo(harmless(line), err=True)


def _answer(comeback: "Comeback") -> ExitCode:
    if comeback.action is not Action.REFUSE:
        return ExitCode.CLEAN
    return ExitCode.INCOMPLETE if comeback.unjudged else ExitCode.ERROR
