"""`undercroft packages`: the inventory of one state."""

from typing import Any

import click

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.options import examples, format_option, machine_options, opened, request, screen, show
from undercroft.cli.render import data, listing
from undercroft.model.report import CURRENT


@click.command(
    short_help="The packages of one state.",
    epilog=examples(
        "undercroft packages web01.qcow2@before-upgrade",
        "undercroft packages -d web01 @before-upgrade -f json",
    ),
)
@click.argument("image", required=False, metavar="IMAGE[@STATE]")
@machine_options
@format_option("table", "json", "yaml")
def command(image: str | None, output_format: str, no_sandbox: bool, **options: Any) -> int:
    """Show the packages of one state (default: the current one) with their sources and versions."""
    asked, state = request(image, options)
    with opened(asked, no_sandbox=no_sandbox) as (machine, _reader):
        wanted = machine.state(state or CURRENT)
        inventory = machine.inventory(wanted)
    if output_format == "table":
        show(listing.render_packages(inventory, screen(), title=f"{machine.name}@{wanted.name}"))
    else:
        show(data.render_packages(inventory, output_format))
    return ExitCode.CLEAN if inventory.coverage.complete else ExitCode.INCOMPLETE
