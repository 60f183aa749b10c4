"""`undercroft guest-service`: the process between this host's guests and their vaults."""

import os
import sys
from pathlib import Path

import click

from undercroft.cli.options import examples
from undercroft.cli.render.escape import harmless_lines


@click.command(
    name="guest-service",
    hidden=True,
    short_help="Serve guests: seeds after every resume, and their vaults.",
    epilog=examples("systemctl enable --now undercroft-guest.socket"),
)
@click.option(
    "--tpm", default="auto", show_default=True, metavar="auto|none|DEVICE|TCTI", help="The host's TPM."
)
@click.option("--state", type=click.Path(path_type=Path), metavar="FOLDER", help="The service's own folder.")
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the events of this run, for tests.",
)
@click.option(
    "--socket-fd", type=click.IntRange(min=-1), default=-1, metavar="N", help="The listening socket."
)
@click.option("--child", is_flag=True, help="End with who starts it.")
@click.option("--unconfined", is_flag=True, help="Stay who starts it, with all that they may: for tests.")
def command(
    tpm: str, state: Path | None, trace: Path | None, socket_fd: int, child: bool, unconfined: bool
) -> int:
    """Serve guests in the foreground until SIGTERM or Ctrl-C.

    systemd or `undercroft up` starts it, as a user of its own. It takes its listening socket from either,
    or makes one for its own user.
    """
    from undercroft.guestservice.main import Settings, run  # noqa: PLC0415 - not needed for --help
    from undercroft.usecases.fleet.places import Places  # noqa: PLC0415

    places = Places.default()
    settings = Settings(
        state or places.guest_state, places.guest_socket, socket_fd, tpm, trace, not unconfined, child
    )
    return run(settings, _report, os.environ)


def _report(line: str) -> None:
    """Write what is told for the journal."""
    sys.stderr.write(harmless_lines(line) + "\n")
    sys.stderr.flush()
