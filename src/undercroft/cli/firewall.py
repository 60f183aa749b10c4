"""`undercroft firewall`: the packet filter at the machines' ports, for all hosts of one record."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.firewalloptions import own_addresses, policy_option
from undercroft.cli.firewallprove import prove_command
from undercroft.cli.firewallviews import map_command, show_command, trace_command
from undercroft.cli.fleetoptions import administrator, record_option
from undercroft.cli.options import examples, format_option, screen, show

if TYPE_CHECKING:
    from undercroft.firewall.policy import FirewallPolicy
    from undercroft.ports.records import Record
    from undercroft.usecases.firewall.values import Plan, Status

WAIT_S = 30.0


@click.group(
    short_help="Filter machines at their ports: plan, apply, prove, show, trace, map.",
    epilog=examples(
        "undercroft firewall plan",
        "undercroft firewall apply --reason 'ticket 4711'",
        "undercroft firewall trace web01 db01 tcp/5432",
        "undercroft firewall prove",
    ),
)
def command() -> None:
    """Filter what machines may send and get, at their ports, by one policy for all hosts of the record.

    Nothing changes because a file is edited: `plan` shows what a policy would do, `apply` puts it into force.
    docs/FIREWALL.md has all of it.
    """


@command.command(
    short_help="What applying the policy would change, for whom.",
    epilog=examples("undercroft firewall plan", "undercroft firewall plan --policy new.yaml -f json"),
)
@policy_option
@click.option("--withdraw", is_flag=True, help="What a withdrawal would open.")
@format_option("table", "json", "yaml")
@click.option("-v", "--verbose", is_flag=True, help="List every machine.")
@record_option
def plan(path: Path | None, withdraw: bool, output_format: str, verbose: bool, database: str) -> int:
    """Show which flows open and close, for which machines, before anything changes.

    Machines that are filtered alike are one line. Exit code 1: it cannot be applied, the reason stands first.
    4: something of the fleet could not be told.
    """
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415 - not for --help

    if path and withdraw:
        raise click.UsageError("--withdraw takes no policy")
    policy = None if withdraw else _policy(path)
    with existing_records(database) as records, records.reading() as record:
        found = _planned(record, policy)
    if output_format == "table":
        from undercroft.cli.render.firewallplan import render_plan  # noqa: PLC0415

        show(render_plan(found, screen(), verbose=verbose))
    else:
        from undercroft.cli.render import data  # noqa: PLC0415

        show(data.render_value("undercroft/firewall-plan/1", found, output_format, changes=found.changes))
    if found.against:
        return ExitCode.ERROR
    return ExitCode.INCOMPLETE if found.problems else ExitCode.CLEAN


@command.command(
    short_help="Put the policy into force on all hosts of the record.",
    epilog=examples(
        "undercroft firewall apply --reason 'ticket 4711'",
        "undercroft firewall apply --policy new.yaml --wait 60",
        "undercroft firewall apply --withdraw --reason 'all open for the move'",
    ),
)
@policy_option
@click.option("--reason", default="", metavar="TEXT", help="Why; goes on record.")
@click.option("--withdraw", is_flag=True, help="Take the filter away: everything opens.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 3600),
    default=WAIT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the hosts; 0 waits for none.",
)
@format_option("table", "json", "yaml")
@click.option("-v", "--verbose", is_flag=True, help="List every machine.")
@record_option
def apply(
    path: Path | None,
    reason: str,
    withdraw: bool,
    wait_s: float,
    output_format: str,
    verbose: bool,
    database: str,
) -> int:
    """Check the policy as `plan` does, put it on record, and wait until each host's agent holds it.

    Exit code 1: it cannot be applied, a host says that it does not hold it, or something defeats it there. 4:
    a host has not answered in time, or has not proven it, or something of it is wrong or could not be told.
    """
    from undercroft.cli.render.firewallplan import render_plan  # noqa: PLC0415 - not for --help
    from undercroft.usecases.firewall import applying  # noqa: PLC0415
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415

    if path and withdraw:
        raise click.UsageError("--withdraw takes no policy")
    policy = None if withdraw else _policy(path)
    order = applying.ApplyOrder(policy, administrator(), reason, datetime.now(UTC))
    with existing_records(database) as records:
        with records.reading() as record:
            found = _planned(record, policy)
        applying.check_withdrawal(found, order)
        if output_format == "table":
            show(render_plan(found, screen(), verbose=verbose))
        with records.transaction() as record:
            applied = applying.put_into_force(record, found, order)
        click.echo(f"policy {applied.number} is on record", err=True)
        status = applying.wait_until_held(
            records,
            wait_s=wait_s,
            clock_s=time.monotonic,
            sleep=time.sleep,
            now=lambda: datetime.now(UTC),
        )
    _show_status(status, output_format)
    return _held(status) if wait_s else ExitCode.CLEAN


@command.command(
    short_help="What the kernel of each host holds.",
    epilog=examples("undercroft firewall status", "undercroft firewall status -f json"),
)
@format_option("table", "json", "yaml")
@record_option
def status(output_format: str, database: str) -> int:
    """Show which policy is in force, and what each host's agent says of it.

    PROVEN is when the kernel's table was proven to be the policy. AROUND is when the agent looked at what
    could pass that table by, and how much it found: `undercroft firewall prove`, on that host, names it.

    Exit code 1: a host does not hold it, or something defeats it there. 4: one has not told, or tells no
    more, has not proven it yet, or something of it is wrong or could not be told.
    """
    from undercroft.usecases.firewall import applying  # noqa: PLC0415 - not for --help
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415

    with existing_records(database) as records, records.reading() as record:
        found = applying.status(record, datetime.now(UTC))
    _show_status(found, output_format)
    return _held(found)


command.add_command(prove_command)
command.add_command(show_command)
command.add_command(trace_command)
command.add_command(map_command)


def _policy(path: Path | None) -> "FirewallPolicy":
    from undercroft.usecases.firewall.inforce import policy_of_file  # noqa: PLC0415 - not for --help
    from undercroft.usecases.fleet.places import Places  # noqa: PLC0415

    return policy_of_file(path or Places.default().policy, datetime.now(UTC).date())


def _planned(record: "Record", policy: "FirewallPolicy | None") -> "Plan":
    from undercroft.adapters.bridgeports import bridge_ports  # noqa: PLC0415 - not for --help
    from undercroft.usecases.firewall.inforce import planned  # noqa: PLC0415
    from undercroft.usecases.firewall.planning import BridgePort  # noqa: PLC0415

    ports = [BridgePort(device, bridge) for device, bridge in bridge_ports()]
    return planned(record, policy, own_addresses(), ports)


def _show_status(found: "Status", output_format: str) -> None:
    if output_format == "table":
        from undercroft.cli.render.firewallplan import render_status  # noqa: PLC0415

        show(render_status(found, screen(), datetime.now(UTC)))
    else:
        from undercroft.cli.render import data  # noqa: PLC0415

        show(data.render_value("undercroft/firewall-status/1", found, output_format))


def _held(found: "Status") -> ExitCode:
    from undercroft.usecases.firewall.values import Holding  # noqa: PLC0415

    holdings = {host.holding for host in found.hosts}
    if holdings & {Holding.PROBLEM, Holding.VOID}:
        return ExitCode.ERROR
    return ExitCode.CLEAN if holdings <= {Holding.PROVEN} else ExitCode.INCOMPLETE
