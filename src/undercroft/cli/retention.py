"""`undercroft retention`: snapshots past their age, what they keep, and their removal by command."""

from contextlib import closing
from datetime import UTC, datetime

import click

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.fleetoptions import administrator, confirm, connect_option, record_option, yes_option
from undercroft.cli.options import examples, format_option, screen, show
from undercroft.cli.render import data
from undercroft.cli.render.escape import harmless


@click.command(
    short_help="Snapshots past their age, and the secrets they hold.",
    epilog=examples(
        "undercroft retention",
        "undercroft retention web01 -f json",
        "undercroft retention web01 --remove before-upgrade --reason 'past 90 days'",
    ),
)
@click.argument("name", required=False, default="")
@click.option("--remove", "removed", multiple=True, metavar="SNAPSHOT", help="Remove it; repeatable.")
@click.option("--reason", default="", metavar="TEXT", help="Why it is removed; goes on record.")
@click.option("-v", "--verbose", is_flag=True, help="Name every key and secret.")
@format_option("table", "json", "yaml")
@yes_option
@connect_option
@record_option
def command(
    name: str,
    removed: tuple[str, ...],
    reason: str,
    verbose: bool,
    output_format: str,
    yes: bool,
    connect: str,
    database: str,
) -> int:
    """Show the snapshots of the fleet or of the machine NAME, those past the policy's age first.

    ONLY HERE counts private keys and secrets that the machine itself has no more; OPENS, keys that still let
    into some machine. The record is read, not the machines. Nothing is removed but by --remove.
    """
    if removed and not (name and reason.strip()):
        raise click.UsageError("--remove goes with the machine's NAME, and with --reason TEXT for the record")
    from undercroft.usecases.fleet.orders.examine import Order  # noqa: PLC0415 - not for --help
    from undercroft.usecases.fleet.orders.retention import chosen, remove, review  # noqa: PLC0415
    from undercroft.usecases.fleet.places import Places  # noqa: PLC0415
    from undercroft.usecases.fleet.verdicts.policyfile import read_policy  # noqa: PLC0415
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415

    now, places = datetime.now(UTC), Places.default()
    with existing_records(database) as records:
        policy = read_policy(places.policy, now.date(), places.kept_policy)
        kept = review(records, policy, now, name)
        if removed:
            from undercroft.adapters.libvirt.fleet import LibvirtFleet  # noqa: PLC0415
            from undercroft.cli.render.retention import render_removal  # noqa: PLC0415

            picked = chosen(kept, removed, name)
            show(render_removal(picked, screen()))
            confirm(f"Remove {len(picked)} of {len(kept)} snapshots of {harmless(name)}?", yes=yes)
            with closing(LibvirtFleet(connect)) as fleet:
                remove(records, fleet, picked, Order(administrator(), now, reason))
            return ExitCode.CLEAN
    if output_format == "table":
        from undercroft.cli.render.retention import render_retention  # noqa: PLC0415

        show(render_retention(kept, screen(), verbose=verbose))
    else:
        past = sum(one.past for one in kept)
        show(data.render_values("undercroft/retention/1", "snapshots", kept, output_format, past=past))
    return ExitCode.INCOMPLETE if any(one.problems for one in kept) else ExitCode.CLEAN
