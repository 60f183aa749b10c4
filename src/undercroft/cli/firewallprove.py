"""`undercroft firewall prove`: this host's kernel holds the policy, or a packet shows that it does not."""

import socket
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.firewalloptions import own_addresses
from undercroft.cli.fleetoptions import record_option
from undercroft.cli.options import examples, format_option, screen, show

if TYPE_CHECKING:
    from undercroft.assurance.firewall.certificate import Standing
    from undercroft.ports.records import Records
    from undercroft.usecases.firewall.proving import Proven


@click.command(
    "prove",
    short_help="Prove that this host's kernel holds the policy.",
    epilog=examples(
        "undercroft firewall prove",
        "undercroft firewall prove --out certificate.json",
        "undercroft firewall prove --verify certificate.json --key 3f5a...",
    ),
)
@click.option(
    "--out",
    "out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the signed certificate there, too.",
)
@click.option(
    "--verify",
    "verified",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Verify a certificate instead.",
)
@click.option(
    "--key", default="", metavar="HEX|FILE", help="With --verify: the pinned key; default: this host's own."
)
@format_option("table", "json", "yaml")
@click.option("-v", "--verbose", is_flag=True, help="Show all that was shown and assumed.")
@record_option
def prove_command(
    out: Path | None, verified: Path | None, key: str, output_format: str, verbose: bool, database: str
) -> int:
    """Read this host's filter back from the kernel, as root, and prove that it is the policy.

    For every packet, not for some: or it shows one that the kernel treats otherwise. What stands around the
    table is looked at, too. Exit code 1: it is not so, or something defeats it. 4: something could not be
    told. --verify checks a certificate of another time or host, and says nothing about now.
    """
    if verified:
        if out:
            raise click.UsageError("give --out or --verify, not both")
        return _verify(verified, key, output_format, verbose=verbose, database=database)
    if key:
        raise click.UsageError("--key goes with --verify")
    from undercroft.usecases.firewall import proving  # noqa: PLC0415 - Z3, not for --help
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415

    with existing_records(database) as records:
        proven = _proven(records)
    if output_format == "table":
        from undercroft.cli.render.firewallproof import render_proven  # noqa: PLC0415

        show(render_proven(proven, screen(), verbose=verbose))
    else:
        from undercroft.cli.render import data  # noqa: PLC0415

        show(data.render_document(proving.document(proven), output_format))
    if out:
        proving.export(proven, out)
        click.echo(f"{out}: written; pin the key of this host: undercroft audit export", err=True)
    return _exit_code(proven.standing)


def _proven(records: "Records") -> "Proven":
    from undercroft.adapters.nftables import Nftables  # noqa: PLC0415 - not for --help
    from undercroft.adapters.surroundings import gather  # noqa: PLC0415
    from undercroft.agent.firewall import MEMORY_NAME  # noqa: PLC0415
    from undercroft.usecases.firewall import inforce, proving  # noqa: PLC0415
    from undercroft.usecases.firewall.machines import gathered  # noqa: PLC0415
    from undercroft.usecases.firewall.surrounding import Ground  # noqa: PLC0415
    from undercroft.usecases.fleet.places import Places  # noqa: PLC0415
    from undercroft.usecases.fleet.starts.arrivals import views  # noqa: PLC0415

    places, host = Places.default(), socket.gethostname()
    with records.reading() as record:
        inforce.policy_in_force(record)
    attempts = count()
    with Nftables() as packet_filter:

        def wanted() -> proving.Wanted:
            with records.reading() as record:
                _, policy = inforce.policy_in_force(record)
                possible = views(record, host)
                arriving = possible[next(attempts) % len(possible)]
                fleet = gathered(record, policy, host, own_addresses()[host], arriving).fleet
            held = proving.classes_held(packet_filter, places.state / MEMORY_NAME, datetime.now(UTC))
            return proving.Wanted(policy, fleet, held)

        signing = proving.Signing(records, places.audit_key) if places.audit_key.exists() else None
        ground = Ground(packet_filter, gather)
        return proving.prove(ground, wanted, signing, lambda: datetime.now(UTC))


def _verify(path: Path, key: str, output_format: str, *, verbose: bool, database: str) -> int:
    from undercroft.cli.audit import pinned_key  # noqa: PLC0415 - not for --help
    from undercroft.usecases.firewall.proving import verify_certificate  # noqa: PLC0415
    from undercroft.usecases.fleet.places import Places  # noqa: PLC0415
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415

    pinned = pinned_key(key, Places.default())
    if database or not key:
        # This host's own certificate is in its own log, too.
        with existing_records(database) as records:
            certificate = verify_certificate(path, pinned, records)
    else:
        certificate = verify_certificate(path, pinned)
    if output_format == "table":
        from undercroft.cli.render.firewallproof import render_certificate  # noqa: PLC0415

        show(render_certificate(certificate, screen(), verbose=verbose))
    else:
        from undercroft.cli.render import data  # noqa: PLC0415

        show(
            data.render_value(
                "undercroft/certificate-verified/1",
                certificate,
                output_format,
                standing=certificate.standing.value,
            )
        )
    return _exit_code(certificate.standing)


def _exit_code(standing: "Standing") -> ExitCode:
    from undercroft.assurance.firewall.certificate import Standing  # noqa: PLC0415 - not for --help

    if standing is Standing.VOID:
        return ExitCode.ERROR
    return ExitCode.CLEAN if standing is Standing.CERTIFIED else ExitCode.INCOMPLETE
