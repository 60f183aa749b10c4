"""`undercroft up`: agent, record and admission on this host."""

import os
import sys
from pathlib import Path

import click

from undercroft.cli.options import examples
from undercroft.cli.render.escape import harmless_lines


@click.command(
    short_help="Run the agent: watch, judge and admit this host's machines.",
    epilog=examples(
        "undercroft up --policy /etc/undercroft/policy.yaml",
        "undercroft up --no-hook",
        "systemctl enable --now undercroft",
    ),
)
@click.option("-c", "--connect", default="", metavar="URI", help="libvirt URI, as for virsh.")
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Policy file or folder, instead of /etc/undercroft/policy.yaml.",
)
@click.option("--database", default="", metavar="URL", help="Record: a path, or postgresql://...")
@click.option(
    "--metrics", default="127.0.0.1:9477", show_default=True, metavar="HOST:PORT", help="For Prometheus."
)
@click.option("--no-metrics", is_flag=True, help="Serve no metrics.")
@click.option("--no-hook", is_flag=True, help="Install no hook: everything is seen, nothing is enforced.")
@click.option("--no-guest-service", is_flag=True, help="Start no guest service where systemd starts none.")
@click.option(
    "--hooks",
    type=click.Path(path_type=Path),
    default=Path("/etc/libvirt/hooks"),
    show_default=True,
    help="libvirt's folder of hooks.",
)
def command(
    connect: str,
    policy: Path | None,
    database: str,
    metrics: str,
    no_metrics: bool,
    no_hook: bool,
    no_guest_service: bool,
    hooks: Path,
) -> int:
    """Run the agent in the foreground until SIGTERM or Ctrl-C.

    It installs libvirt's hook, answers it, keeps the record of every machine in every state, and judges them
    by the policy. Where there never was one nothing is refused; where it is wrong or gone, the last good one
    holds. undercroft doctor says what is missing.
    """
    import asyncio  # noqa: PLC0415 - not needed for --help
    from dataclasses import replace  # noqa: PLC0415

    from undercroft.agent.opening import Options  # noqa: PLC0415
    from undercroft.agent.service import serve  # noqa: PLC0415
    from undercroft.usecases.fleet.places import Places  # noqa: PLC0415
    from undercroft.usecases.paths import own_database  # noqa: PLC0415

    places = Places.default()
    if policy is not None:
        places = replace(places, policy_path=str(policy.absolute()))
    if database:
        places = replace(places, database=database)
    options = Options(
        places,
        connect=connect,
        advisories=own_database(os.environ, is_root=os.geteuid() == 0),
        hooks=None if no_hook else hooks,
        metrics="" if no_metrics else metrics,
        guest_service=not no_guest_service,
    )
    asyncio.run(serve(options, _report))
    return 0


def _report(line: str) -> None:
    """Write what is told for the journal; what a guest wrote is in it as plain text, and begins no line."""
    sys.stderr.write(harmless_lines(line) + "\n")
    sys.stderr.flush()
