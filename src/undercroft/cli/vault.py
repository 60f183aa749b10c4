"""`undercroft vault`: what this host's guests have in their vaults, and whether the log can be trusted."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.fleetoptions import administrator, confirm, record_option, yes_option
from undercroft.cli.options import examples, format_option, screen, show
from undercroft.cli.render.escape import harmless
from undercroft.errors import StateError, UndercroftError
from undercroft.usecases.fleet.places import Places

if TYPE_CHECKING:
    from undercroft.adapters.guestservice import GuestService
    from undercroft.usecases.vaults.values import ServiceState

_KINDS = ("counters", "spent", "ledgers", "blobs", "revoked", "keys", "executions")
_SERVING = "serving"
_ANEW = "systemctl restart undercroft-guest.service (or undercroft up) starts it anew"


@click.group(
    short_help="What guests keep beneath themselves; verify it, adopt a loss.",
    epilog=examples(
        "undercroft vault ls",
        "undercroft vault show web01",
        "undercroft vault verify",
        "undercroft vault adopt --reason 'disk replaced, backup of Monday put back, ticket 4711'",
    ),
)
def command() -> None:
    """Counters, one-time values, ledgers, sealed blobs and keys that no rollback of a guest rewinds.

    The guest service of this host is asked; only root may. docs/VAULT.md says what an acknowledgement rests
    on.
    """


@command.command(
    "ls",
    short_help="The vaults of this host, and who holds each fence.",
    epilog=examples("undercroft vault ls", "undercroft vault ls -f json"),
)
@format_option("table", "json", "yaml")
@record_option
def ls_command(output_format: str, database: str) -> int:
    """List the vaults of this host's machines: how much is in each, and which execution holds its fence.

    Exit code 1: the service does not run, or its start was refused, with the reason and what to do.
    """
    from undercroft.usecases.vaults import asking  # noqa: PLC0415 - not for --help

    with _service() as service:
        state = _serving(service)
        names = asking.names_of(service, _recorded(database))
        away = asking.kept_elsewhere(service, _homes(database), socket.gethostname())
        found = asking.listing(service, names)
    rows = [replace(row, elsewhere=away.get(row.machine, "")) for row in found]
    if output_format == "table":
        from undercroft.cli.render.vault import render_vaults  # noqa: PLC0415

        here = {row.machine for row in rows}
        others = [(names.get(machine) or machine, away[machine]) for machine in away if machine not in here]
        show(render_vaults(state, rows, screen(), others))
    else:
        from undercroft.cli.render.vaultdata import vaults_document  # noqa: PLC0415

        show(vaults_document(state, rows, output_format))
    return ExitCode.CLEAN


@command.command(
    "show",
    short_help="What one machine has: values, heights, versions, keys, what is spent and revoked.",
    epilog=examples(
        "undercroft vault show web01",
        "undercroft vault show web01 spent",
        "undercroft vault show 11111111-2222-4333-8444-555555555555 counters -f json",
    ),
)
@click.argument("machine", metavar="NAME|UUID")
@click.argument("kind", required=False, type=click.Choice(_KINDS), metavar="[KIND]")
@format_option("table", "json", "yaml")
@record_option
def show_command(machine: str, kind: str | None, output_format: str, database: str) -> int:
    """Show what the vault of a machine has, or all that it has of one KIND.

    KIND is counters, spent, ledgers, blobs, revoked, keys or executions (which held the fence). What sealed
    blobs hold, ledgers' entries and the secret part of keys are never shown. Names are the guest's own.

    Exit code 3: no machine has this name, or it has no vault.
    """
    from undercroft.cli.render.vault import LISTED  # noqa: PLC0415 - not for --help
    from undercroft.usecases.vaults import asking  # noqa: PLC0415

    table = output_format == "table"
    with _service() as service:
        state = _serving(service)
        names = asking.names_of(service, _recorded(database))
        limit = LISTED if table and not kind else None
        away = asking.kept_elsewhere(service, _homes(database), socket.gethostname())
        found = asking.contents(service, asking.meant(machine, names), names, kind or "", limit)
    elsewhere = away.get(found.summary.machine, "")
    found = replace(found, summary=replace(found.summary, elsewhere=elsewhere))
    if table:
        from undercroft.cli.render.vault import render_vault  # noqa: PLC0415

        show(render_vault(found, state, screen(), kind=kind or ""))
    else:
        from undercroft.cli.render.vaultdata import vault_document  # noqa: PLC0415

        show(vault_document(found, state, output_format))
    return ExitCode.CLEAN


@command.command(
    short_help="Read the whole log again, and hold it against the TPM.",
    epilog=examples("undercroft vault verify", "undercroft vault verify -f json"),
)
@format_option("table", "json", "yaml")
def verify(output_format: str) -> int:
    """Read the log of the vaults again, from the disk: every head, then the TPM's counter and index.

    Also while a start is refused: it says what does not fit. Guests are served meanwhile.

    Exits with 0 where all fits, 1 where anything does not, and 4 where it does but no TPM vouches for it, so
    that nobody can tell whether the disk is an earlier one.
    """
    from undercroft.usecases.vaults import asking  # noqa: PLC0415 - not for --help

    with _service() as service:
        state = asking.state_of(service)
        found = asking.verification(service)
    if output_format == "table":
        from undercroft.cli.render.vault import render_verification  # noqa: PLC0415

        show(render_verification(found, state, screen()))
    else:
        from undercroft.cli.render import data  # noqa: PLC0415

        show(data.render_value("undercroft/vault-verify/1", found, output_format, state=state.state))
    if state.state != _SERVING:
        cure = "undercroft vault adopt --reason TEXT goes on with what is there, and says what that loses"
        if found.fits or not found.head:
            cure = f"then {_ANEW}" if found.problem else _ANEW
        click.echo(f"undercroft: no guest is served until all fits; {cure}", err=True)
    if not found.fits or state.state != _SERVING:
        return ExitCode.ERROR
    if found.counter is None:
        click.echo("undercroft: no TPM vouches for this log: it may be an earlier one", err=True)
        return ExitCode.INCOMPLETE
    return ExitCode.CLEAN


@command.command(
    short_help="Go on without what is lost: a log that does not fit the TPM, a vault's old host.",
    epilog=examples(
        "undercroft vault adopt --reason 'disk replaced, backup of Monday put back, ticket 4711'",
        "undercroft vault adopt web01 --reason 'host1 burned, ticket 4712'",
    ),
)
@click.argument("machine", required=False, default="", metavar="[NAME|UUID]")
@click.option("--reason", required=True, metavar="TEXT", help="Why; goes on record.")
@yes_option
@record_option
def adopt(machine: str, reason: str, yes: bool, database: str) -> int:
    """Go on without what is lost, on record. Shows what that is, and asks.

    Without a machine: with the log that is on this host's disk, though the TPM says that it is not the last
    one. A newer backup of the service's folder, put back before, loses less; so does the TPM that the log is
    of.

    With one: with a vault of this host's for a machine that runs here, and whose vault another host keeps.
    Where that host lives, bring the machine back there instead.

    Exit code 1: there is nothing to adopt, or it is refused for what nobody can adopt (a TPM that does not
    answer, a damaged log, a missing key; a machine that does not run here, or also runs elsewhere).
    """
    if not reason.strip():
        raise click.UsageError("--reason says why, for the record")
    if machine:
        return _adopt_vault(machine, reason, database, yes=yes)
    return _adopt_log(reason, yes=yes)


def _adopt_vault(machine: str, reason: str, database: str, *, yes: bool) -> int:
    """Make this host the home of a machine's vault. The agent hears of it by the log."""
    from undercroft.cli.render.vault import render_move  # noqa: PLC0415 - not for --help
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415
    from undercroft.usecases.fleet.views.machine import find_machine  # noqa: PLC0415
    from undercroft.usecases.vaults import homes  # noqa: PLC0415

    here = socket.gethostname()
    with existing_records(database) as records:
        with records.reading() as record:
            known = [one for one in record.find_machines(machine) if one.host == here and not one.gone_at]
            found = (known[0] if len(known) == 1 else find_machine(record, machine)).domain
            home = homes.adoptable(record, found.uuid, here)
        show(render_move(found.name, home, here, screen()))
        confirm("Go on with a vault of this host?", yes=yes)
        with records.transaction() as record:
            now = datetime.now(UTC)
            home = homes.adopt(record, found.uuid, here, by=administrator(), reason=reason, now=now)
    told = f"{harmless(found.name)}: its vault is kept by this host from now on"
    click.echo(f"undercroft: {told}; the agent hands it over within seconds", err=True)
    return ExitCode.CLEAN


def _adopt_log(reason: str, *, yes: bool) -> int:
    """Go on with a log that does not fit the TPM."""
    from undercroft.cli.render.vault import render_loss  # noqa: PLC0415 - not for --help
    from undercroft.usecases.vaults import asking  # noqa: PLC0415

    with _service() as service:
        state = asking.state_of(service)
        if state.state == _SERVING:
            raise StateError(f"log and TPM fit, and epoch {state.epoch} is served: there is nothing to adopt")
        found = asking.verification(service)
        if found.fits:
            raise StateError(f"log and TPM fit now: there is nothing to adopt; {_ANEW}")
        if not found.head:
            raise StateError(f"{found.problem}\nthat is nothing to adopt: mend it, then {_ANEW}")
        show(render_loss(found, screen()))
        confirm("Go on with what is there, for good?", yes=yes)
        epoch = service.adopt(reason.strip())
    click.echo(f"undercroft: adopted; epoch {epoch} is served, and the log says why", err=True)
    return ExitCode.CLEAN


@contextmanager
def _service() -> Iterator["GuestService"]:
    """Connect to this host's guest service. Raises OperationError, DeniedError with the cure."""
    from undercroft.adapters.guestservice import GuestService  # noqa: PLC0415 - not for --help

    with GuestService.connect(Places.default().guest_socket) as service:
        yield service


def _serving(service: "GuestService") -> "ServiceState":
    """Return how the service stands. Raises StateError where its start was refused, with what to do next."""
    from undercroft.usecases.vaults import asking  # noqa: PLC0415 - not for --help

    state = asking.state_of(service)
    if state.state != _SERVING:
        raise StateError(
            f"the guest service serves no vault, and no guest is let in: {state.problem}\n"
            "undercroft vault verify says what does not fit"
        )
    return state


def _homes(database: str) -> dict[str, str]:
    """Return which host keeps which machine's vault by the record; none without a record."""
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415 - SQLAlchemy

    try:
        with existing_records(database) as records, records.reading() as record:
            return {home.machine: home.host for home in record.vault_homes().values()}
    except UndercroftError:
        if database:
            raise
        return {}


def _recorded(database: str) -> list[tuple[str, str]]:
    """Return UUID and name of the machines on record; none without a record: only names need it."""
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415 - SQLAlchemy

    try:
        with existing_records(database) as records, records.reading() as record:
            return [(one.domain.uuid, one.domain.name) for one in record.machines(gone=True)]
    except UndercroftError:
        if database:
            raise
        return []
