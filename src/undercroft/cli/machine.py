"""`undercroft machine`: one machine, what is on record of it, and what can be changed about it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime

import click

from undercroft.cli.fleet import exit_code
from undercroft.cli.fleetoptions import (
    administrator,
    confirm,
    connect_option,
    record_option,
    yes_option,
)
from undercroft.cli.options import examples, format_option, screen, show
from undercroft.cli.render import data
from undercroft.cli.render.escape import harmless
from undercroft.errors import InputError, StateError
from undercroft.model.addresses import claim, claimed
from undercroft.model.domain import Ownership
from undercroft.model.fleet import MachineRecord
from undercroft.ports.fleet import FleetHypervisor
from undercroft.ports.records import Records
from undercroft.usecases.fleet.orders.mending import Ownerships, change_ownership, mend_genid
from undercroft.usecases.fleet.views.existing import existing_records

_GENID = "genid"
_NEVER = "never"
_MAX_LISTED = 1000


def _day(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return a day as it stands in the metadata, "" for never."""
    if value is None or value == _NEVER:
        return value and ""
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise click.BadParameter(f"{value}: give it as YYYY-MM-DD, or {_NEVER}", ctx, param) from None


def _addresses(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return addresses as they stand in the metadata, None where none are to be written."""
    try:
        return tuple(claim(*claimed(value)) for value in values if value) if values else None
    except InputError as error:
        raise click.BadParameter(f"{error}; ADDRESS or ADDRESS@MAC", ctx, param) from None


@dataclass(frozen=True, slots=True)
class _Change:
    """What the options ask to change."""

    mend: bool
    ownership: Ownerships


@click.command(
    short_help="One machine: states, findings, executions, decisions.",
    epilog=examples(
        "undercroft machine web01",
        "undercroft machine web01 -f json",
        "undercroft machine web01 --owner 'web team' --expires 2026-12-31",
        "undercroft machine web01 --address 192.0.2.7 --address 2001:db8::7",
        "undercroft machine web01 --mend genid",
    ),
)
@click.argument("name", metavar="NAME|UUID")
@format_option("table", "json", "yaml")
@click.option("-v", "--verbose", is_flag=True, help="List every rule, finding, execution and decision.")
@click.option(
    "--mend", type=click.Choice([_GENID]), help="genid: let libvirt tell the guest of a restore (<genid/>)."
)
@click.option("--owner", metavar="WHO", help="Write whose machine it is; '' for nobody.")
@click.option("--label", "labels", multiple=True, help="Write its labels, all of them; '' for none.")
@click.option(
    "--expires", metavar="DAY", callback=_day, help="Write the first day on which it may not start, or never."
)
@click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="ADDRESS[@MAC]",
    callback=_addresses,
    help="Write its addresses, all of them, for the firewall; '' for none.",
)
@click.option("--template/--no-template", default=None, help="Write that it is never started itself.")
@yes_option
@connect_option
@record_option
def command(
    name: str,
    output_format: str,
    verbose: bool,
    mend: str | None,
    owner: str | None,
    labels: tuple[str, ...],
    expires: str | None,
    addresses: tuple[str, ...] | None,
    template: bool | None,
    yes: bool,
    connect: str,
    database: str,
) -> int:
    """Show what is on record of one machine, or change its definition.

    The changes (--mend, --owner, --label, --expires, --address, --template) go into libvirt's definition,
    after a question, and into the log. Exit code 4: a state of it is unknown or was not read whole.
    """
    from undercroft.usecases.fleet.views.machine import find_machine, machine_view  # noqa: PLC0415

    kept = tuple(label for label in labels if label) if labels else None
    change = _Change(mend is not None, Ownerships(owner, kept, expires, template, addresses))
    with existing_records(database) as records:
        if change.mend or not change.ownership.empty:
            with records.reading() as record:
                machine = find_machine(record, name)
            _changed(records, machine, change, connect, yes=yes)
            return 0
        with records.reading() as record:
            limit = _MAX_LISTED if verbose or output_format != "table" else 20
            view = machine_view(record, name, datetime.now(UTC), limit=limit)
    if output_format == "table":
        from undercroft.cli.render.machine import render_machine  # noqa: PLC0415

        show(render_machine(view, screen(), verbose=verbose))
    else:
        show(data.render_machine(view, output_format))
    return exit_code([state.row for state in view.states])


def _changed(records: Records, machine: MachineRecord, change: _Change, connect: str, *, yes: bool) -> None:
    """Ask, change and log; tell what holds from when on."""
    name = harmless(machine.domain.name)
    if machine.gone_at is not None:
        raise StateError(f"{name}: it is gone since {machine.gone_at:%Y-%m-%d %H:%M}; nothing can be changed")
    by, now = administrator(), datetime.now(UTC)
    what = [f"add <genid/> to {name}'s definition"] if change.mend else []
    if not change.ownership.empty:
        what.append(f"write {name}'s metadata: {_told(change.ownership.applied(machine.domain.ownership))}")
    question = " and ".join(what)
    confirm(f"{question[0].upper()}{question[1:]}?", yes=yes)
    with _libvirt(connect) as fleet:
        if change.mend:
            mend_genid(records, fleet, machine, by=by, now=now)
            click.echo(f"{name}: <genid/> is in its definition; it takes effect at the next start", err=True)
        if not change.ownership.empty:
            after = change_ownership(records, fleet, machine, change.ownership, by=by, now=now)
            click.echo(f"{name}: {_told(after)}; the agent judges it anew when it sees the change", err=True)


@contextmanager
def _libvirt(connect: str) -> Iterator[FleetHypervisor]:
    from undercroft.adapters.libvirt.fleet import LibvirtFleet  # noqa: PLC0415 - only for changes

    with closing(LibvirtFleet(connect)) as fleet:
        yield fleet


def _told(ownership: Ownership) -> str:
    parts = [f"owner {ownership.owner}" if ownership.owner else "no owner"]
    parts.append(f"labels {', '.join(ownership.labels)}" if ownership.labels else "no labels")
    parts.append(f"expires {ownership.expires_on}" if ownership.expires_on else "never expires")
    if ownership.addresses:
        parts.append(f"addresses {', '.join(ownership.addresses)}")
    if ownership.template:
        parts.append("a template, never started itself")
    return harmless(", ".join(parts))
