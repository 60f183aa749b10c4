"""The commands of `undercroft firewall` that only look: one machine, one flow, the map."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.firewalloptions import asked_policy_option, kernel_table, own_addresses
from undercroft.cli.fleetoptions import record_option
from undercroft.cli.options import examples, format_option, screen, show, write_picture
from undercroft.errors import InputError


@click.command(
    "show",
    short_help="One machine: labels and why, addresses, whom it reaches.",
    epilog=examples("undercroft firewall show web01", "undercroft firewall show web01 --policy new.yaml"),
)
@click.argument("name", metavar="NAME|UUID")
@asked_policy_option
@format_option("table", "json", "yaml")
@click.option("-v", "--verbose", is_flag=True, help="List every machine.")
@record_option
def show_command(name: str, path: Path | None, output_format: str, verbose: bool, database: str) -> int:
    """Show what the firewall makes of a machine.

    That is: which rule gives each label, where each address comes from, whose services it may open, and who
    may open its own. As root on its host, what the kernel has for it is compared too. Exit code 1: it has
    something else. 4: it has no label or no address, or something of it could not be told.
    """
    from undercroft.usecases.firewall import inforce, members, showing  # noqa: PLC0415 - not for --help
    from undercroft.usecases.firewall.answers import KernelHas  # noqa: PLC0415
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415
    from undercroft.usecases.fleet.views.machine import find_machine  # noqa: PLC0415

    with existing_records(database) as records, records.reading() as record:
        number, policy = inforce.policy_asked(record, path, datetime.now(UTC).date())
        machine = find_machine(record, name)
        everyone = members.members(record, policy, own_addresses(), [machine.host])
        member = everyone.of(machine)
        known = members.known_of(record, member.record)
    # A policy that is not in force is in no kernel.
    table = kernel_table(member.host) if number else ""
    view = showing.showing(member, everyone, policy, known, number=number, table=table)
    if output_format == "table":
        from undercroft.cli.render.firewallshow import render_showing  # noqa: PLC0415

        show(render_showing(view, screen(), verbose=verbose))
    else:
        from undercroft.cli.render import data  # noqa: PLC0415

        show(data.render_value("undercroft/firewall-machine/1", view, output_format))
    if view.kernel is KernelHas.DIFFERENT:
        return ExitCode.ERROR
    return ExitCode.INCOMPLETE if view.problems else ExitCode.CLEAN


@click.command(
    "trace",
    short_help="Whether a flow is allowed, which rule decides, and its way.",
    epilog=examples(
        "undercroft firewall trace web01 db01 tcp/5432",
        "undercroft firewall trace world web01 tcp/443",
        "undercroft firewall trace web01 192.0.2.10 icmp --policy new.yaml",
    ),
)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.argument("service", metavar="SERVICE")
@asked_policy_option
@format_option("table", "json", "yaml")
@record_option
def trace_command(
    source: str, target: str, service: str, path: Path | None, output_format: str, database: str
) -> int:
    """Tell whether FROM may open SERVICE of TO, by which rule, and how tables come to that.

    FROM and TO are machines, addresses, `world` or `host`; SERVICE is a port as tcp/5432, or icmp. The first
    packet and its answer are followed through the rules of each host concerned: the kernel's own where
    root asks on that host, else those that policy and record make. Exit code 1: it is denied. 2: it is no
    question.
    """
    from undercroft.usecases.firewall import inforce, parties  # noqa: PLC0415 - not for --help
    from undercroft.usecases.firewall.tracing import tracing  # noqa: PLC0415
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415

    with existing_records(database) as records, records.reading() as record:
        number, policy = inforce.policy_asked(record, path, datetime.now(UTC).date())
        with _asking():
            question, everyone = parties.question_of(
                record, policy, own_addresses(), (source, target), service
            )
    here = socket.gethostname()
    table = kernel_table(here) if number and here in everyone.fleets else ""
    with _asking():
        found = tracing(
            question,
            everyone,
            policy,
            number=number,
            read={} if isinstance(table, str) else {here: table},
            unread=(table,) if isinstance(table, str) and table else (),
        )
    if output_format == "table":
        from undercroft.cli.render.firewallshow import render_trace  # noqa: PLC0415

        show(render_trace(found, screen()))
    else:
        from undercroft.cli.render import data  # noqa: PLC0415

        show(data.render_value("undercroft/firewall-trace/1", found, output_format))
    return ExitCode.CLEAN if found.allowed else ExitCode.ERROR


@click.command(
    "map",
    short_help="Who may talk to whom, by labels, in the terminal and as a picture.",
    epilog=examples("undercroft firewall map", "undercroft firewall map --svg map.svg"),
)
@click.option(
    "--svg",
    "picture",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the map as a picture instead; - for stdout.",
)
@asked_policy_option
@format_option("table", "json", "yaml")
@record_option
def map_command(picture: str | None, path: Path | None, output_format: str, database: str) -> None:
    """Show who may talk to whom by the policy's labels, and what may never be.

    With --policy no record is needed.
    """
    from undercroft.usecases.firewall import inforce, members  # noqa: PLC0415 - not for --help
    from undercroft.usecases.firewall.mapping import flow_map  # noqa: PLC0415
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415

    today = datetime.now(UTC).date()
    if path is not None:
        found = flow_map(inforce.policy_of_file(path, today))
    else:
        with existing_records(database) as records, records.reading() as record:
            number, policy = inforce.policy_in_force(record)
            counts = members.counts(members.members(record, policy, {}, ()))
        found = flow_map(policy, number, counts)
    if picture:
        from undercroft.cli.render.firewallsvg import render_map_svg  # noqa: PLC0415 - one of three

        write_picture(render_map_svg(found), picture)
    elif output_format == "table":
        from undercroft.cli.render.firewallmap import render_map  # noqa: PLC0415 - one of three

        show(render_map(found, screen()))
    else:
        from undercroft.cli.render import data  # noqa: PLC0415 - one of three

        show(data.render_value("undercroft/firewall-map/1", found, output_format))


@contextmanager
def _asking() -> Iterator[None]:
    """Tell a question that is none from one whose answer is no."""
    try:
        yield
    except InputError as error:
        raise click.UsageError(str(error)) from error
