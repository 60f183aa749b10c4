"""`undercroft lineage`: the tree of a machine's executions."""

import click

from undercroft.cli.fleetoptions import record_option
from undercroft.cli.options import examples, format_option, screen, show, write_picture
from undercroft.usecases.fleet.views.existing import existing_records


@click.command(
    short_help="The tree of a machine's executions, in the terminal and as a picture.",
    epilog=examples(
        "undercroft lineage web01",
        "undercroft lineage web01 --svg tree.svg",
        "undercroft lineage web01 -f json",
    ),
)
@click.argument("name", metavar="NAME|UUID")
@click.option(
    "--svg",
    "picture",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the tree as a picture instead; - for stdout.",
)
@click.option("--all", "everything", is_flag=True, help="List each start, also in long runs of plain ones.")
@format_option("table", "json", "yaml")
@record_option
def command(name: str, picture: str | None, everything: bool, output_format: str, database: str) -> None:
    """Show how a machine came to where it is: starts, snapshots, reverts, restores, copies.

    What was rolled back branches off. Machines related to it by copies are shown, too. A question mark stands
    where the origin is not certain; docs/LINEAGE.md says what can be told and what cannot.
    """
    from undercroft.usecases.fleet.views.channels import exposed_snapshots  # noqa: PLC0415 - heavy
    from undercroft.usecases.fleet.views.lineage import lineage_view  # noqa: PLC0415 - heavy, not for --help
    from undercroft.usecases.fleet.views.machine import checkpoints_of  # noqa: PLC0415 - heavy as well

    with existing_records(database) as records, records.reading() as record:
        machine, tree = lineage_view(record, name)
        exposed = exposed_snapshots(record, machine.domain)
    shown, checkpoints = machine.domain.name, checkpoints_of(machine.domain)
    if picture:
        from undercroft.cli.render.lineagesvg import render_svg  # noqa: PLC0415 - one of three

        write_picture(render_svg(tree, shown), picture)
    elif output_format == "table":
        from undercroft.cli.render.lineage import render_lineage  # noqa: PLC0415 - one of three

        show(
            render_lineage(
                tree,
                shown,
                screen(),
                everything=everything,
                checkpoints=checkpoints,
                exposed=exposed,
            ),
        )
    else:
        from undercroft.cli.render.lineage import render_lineage_data  # noqa: PLC0415 - one of three

        show(render_lineage_data(tree, shown, output_format, checkpoints, exposed))
