"""What the commands share that read the record of the fleet."""

import os
import pwd
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

connect_option = click.option("-c", "--connect", default="", metavar="URI", help="libvirt URI, as for virsh.")
"""For commands that change something in libvirt."""

yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
"""For commands that change something."""


def record_option(command: Command) -> Command:
    """Add the option that names another record."""
    return click.option(
        "--record",
        "database",
        default="",
        metavar="PATH|URL",
        help="Another record than this host's: a SQLite file or postgresql://...",
    )(command)


def administrator(environment: Mapping[str, str] = os.environ) -> str:
    """Return who is at the keyboard, for the log: the user behind sudo, else the process's own."""
    behind = environment.get("SUDO_USER", "")
    try:
        return pwd.getpwnam(behind).pw_name if behind else pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def confirm(question: str, *, yes: bool) -> None:
    """Ask unless `yes`. Raises UsageError where nobody can be asked, Abort on "no"."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here; confirm with --yes")
    click.confirm(question, abort=True, err=True)
