"""`undercroft files`: list and print files of a state, for people who want to look."""

import sys
from typing import Any

import click

from undercroft.cli.options import (
    examples,
    format_option,
    machine_options,
    opened,
    request,
    screen,
    show,
    writing,
)
from undercroft.cli.render import data, listing
from undercroft.model.report import CURRENT


@click.group(
    short_help="List or print files of a state.",
    epilog=examples(
        "undercroft files ls web01.qcow2@before-upgrade /etc", "undercroft files cat -d web01 /etc/os-release"
    ),
)
def command() -> None:
    """List or print files of a state, as the guest sees its tree.

    With -a or -d, give @STATE (or nothing, for the current state) in place of IMAGE.
    """


def _checked(path: str) -> str:
    if not path.startswith("/"):
        raise click.UsageError(f"{path}: give the PATH in the guest from its root on, as /{path}")
    return path


def _image_and_path(arguments: tuple[str, ...], options: dict[str, Any]) -> tuple[str | None, str]:
    """Split IMAGE PATH, or only PATH where -a or -d names the machine."""
    named = bool(options["domain"] or options["added"])
    if len(arguments) == 2:
        return arguments[0], _checked(arguments[1])
    if named and len(arguments) == 1 and not arguments[0].startswith("@"):
        return None, _checked(arguments[0])
    if len(arguments) == 1:
        return arguments[0], "/"
    if named and not arguments:
        return None, "/"
    raise click.UsageError("give an IMAGE and one PATH in the guest")


@command.command(
    epilog=examples("undercroft files ls web01.qcow2@before-upgrade /etc/ssh"),
)
@click.argument("arguments", nargs=-1, metavar="IMAGE[@STATE] [PATH]")
@machine_options
@format_option("table", "json", "yaml")
def ls(arguments: tuple[str, ...], output_format: str, no_sandbox: bool, **options: Any) -> None:
    """List the directory PATH of a guest (default: /), or the one file."""
    image, path = _image_and_path(arguments, options)
    asked, state = request(image, options)
    with opened(asked, no_sandbox=no_sandbox) as (machine, _reader):
        entries = machine.entries(machine.state(state or CURRENT), path)
    if output_format == "table":
        show(listing.render_files(entries, screen()))
    else:
        show(data.render_files(entries, output_format))


@command.command(
    epilog=examples("undercroft files cat web01.qcow2@before-upgrade /etc/shadow > shadow.old"),
)
@click.argument("arguments", nargs=-1, metavar="IMAGE[@STATE] PATH")
@machine_options
def cat(arguments: tuple[str, ...], no_sandbox: bool, **options: Any) -> None:
    """Print the regular file PATH of a guest, byte for byte."""
    image, path = _image_and_path(arguments, options)
    if path == "/":
        raise click.UsageError("give the PATH of a file in the guest, such as /etc/os-release")
    asked, state = request(image, options)
    with opened(asked, no_sandbox=no_sandbox) as (machine, _reader):
        for chunk in machine.content(machine.state(state or CURRENT), path):
            with writing():
                sys.stdout.buffer.write(chunk)
        with writing():
            sys.stdout.buffer.flush()
