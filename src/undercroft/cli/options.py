"""Options and behaviour that several commands share."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from undercroft.errors import OperationError
from undercroft.model.disk import DiskFormat
from undercroft.ports.reader import Reader
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.session import Request, open_machine, start_reader
from undercroft.usecases.target import split_state

if TYPE_CHECKING:
    from undercroft.cli.render.terminal import Terminal
    from undercroft.usecases.keys import KeyRing

NOBODY_READS = 128 + 13

Command = TypeVar("Command", bound=Callable[..., Any])


def machine_options(command: Command) -> Command:
    """Add the options that say which machine is meant and how it may be read."""
    for option in reversed(_MACHINE_OPTIONS):
        command = option(command)
    return command


def key_ring(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> "KeyRing | None":
    """Return the keys that `--key` names, None without any; the command's end closes them."""
    del option
    if not values:
        return None
    from undercroft.usecases.keys import KeyRing  # noqa: PLC0415 - few commands have keys

    ring = KeyRing()
    context.call_on_close(ring.close)
    for value in values:
        volume, equals, path = value.partition("=")
        if not equals or not volume or not path:
            # What was typed may be a passphrase: it is not shown.
            raise click.UsageError("--key is VOLUME=FILE, and FILE holds the key (never the key itself)")
        if path == "-":
            _add_standard_input(ring, volume)
        else:
            ring.add_file(volume, path)
    return ring


def _add_standard_input(ring: "KeyRing", volume: str) -> None:
    """Ask for a passphrase where a person sits at standard input, else take all that it gives."""
    if sys.stdin is not None and sys.stdin.isatty():
        import getpass  # noqa: PLC0415 - at a terminal only

        ring.add(volume, getpass.getpass(f"Passphrase for {volume}: ").encode("utf-8", "surrogateescape"))
        return
    try:
        ring.add_stream(volume, sys.stdin.fileno())
    except (OSError, ValueError, AttributeError):
        raise click.UsageError("--key names standard input, which cannot be read") from None


_MACHINE_OPTIONS = (
    click.option(
        "-a", "--add", "added", multiple=True, metavar="IMAGE", help="A disk of the machine; repeat for more."
    ),
    click.option("-d", "--domain", default="", metavar="NAME", help="A libvirt domain: name, ID or UUID."),
    click.option("-c", "--connect", default="", metavar="URI", help="libvirt URI, as for virsh."),
    click.option(
        "--image-format",
        type=click.Choice([kind.value for kind in DiskFormat]),
        help="Format of the images, instead of telling it from their bytes.",
    ),
    click.option(
        "--backing",
        multiple=True,
        metavar="FILE",
        help="A file that may be opened as a backing file; repeatable.",
    ),
    click.option(
        "--data-file",
        multiple=True,
        metavar="FILE",
        help="A file that may be opened as an external data file or extent, or a folder of such.",
    ),
    click.option(
        "--key",
        multiple=True,
        metavar="VOLUME=FILE",
        callback=key_ring,
        help="A file with the key of an encrypted volume, named by its name (vda2), UUID or label, or * for"
        " any; FILE - is standard input; repeatable.",
    ),
    click.option(
        "--no-sandbox",
        is_flag=True,
        help="Parse untrusted disks without confinement; recorded in the result.",
    ),
)


def examples(*lines: str) -> str:
    """Return the end of a help text that shows how a command is called, as it stands."""
    unfilled = "\b"  # click's mark for a paragraph whose lines stay as they are
    return f"{unfilled}\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def format_option(*formats: str) -> Callable[[Command], Command]:
    """Return the option that chooses an output format; the first is the default."""
    return click.option(
        "-f", "--format", "output_format", type=click.Choice(formats), default=formats[0], show_default=True
    )


def request(image: str | None, options: dict[str, Any]) -> tuple[Request, str | None]:
    """Return the request that the machine options make, and the state that IMAGE@STATE names, None for none.

    Takes its options out of `options`. Raises UsageError where none or two kinds of machine are named.
    """
    domain, added = options.pop("domain"), options.pop("added")
    name, state = split_state(image) if image else ("", None)
    if domain and (added or name):
        raise click.UsageError("name a domain with -d or images, not both; a state of a domain is @STATE")
    images = (name, *added) if name else added
    if not domain and not images:
        raise click.UsageError("name an IMAGE, each disk with -a, or a libvirt domain with -d")
    image_format = options.pop("image_format")
    if domain and image_format:
        raise click.UsageError("with -d libvirt says the format; --image-format goes with images")
    asked = Request(
        images=tuple(images),
        domain=domain,
        connect=options.pop("connect"),
        image_format=DiskFormat(image_format) if image_format else None,
        backing_files=options.pop("backing"),
        data_files=options.pop("data_file"),
        keys=options.pop("key"),
    )
    return asked, state


@contextmanager
def opened(asked: Request, *, no_sandbox: bool) -> Iterator[tuple[OpenMachine, Reader]]:
    """Open the machine with a reader, the one that was started early where there is one."""
    early: Reader | None = click.get_current_context().obj
    if early is not None and not no_sandbox:
        with open_machine(asked, early) as machine:
            yield machine, early
        return
    with closing(start_reader(sandbox=not no_sandbox)) as reader, open_machine(asked, reader) as machine:
        yield machine, reader


def show(text: str) -> None:
    """Write a rendered result to stdout. Raises as `writing`."""
    from undercroft.cli.render.terminal import write  # noqa: PLC0415 - not needed for --help

    with writing():
        write(text)
        sys.stdout.flush()


def write_picture(document: str, path: str) -> None:
    """Write a picture to a file, "-" for stdout. Raises OperationError where it cannot be written."""
    if path == "-":
        show(document)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(document)
    except OSError as error:
        raise OperationError(f"{path}: the picture cannot be written: {error.strerror}") from error


@contextmanager
def writing() -> Iterator[None]:
    """Tell what goes wrong with stdout inside the block from everything else.

    Raises:
        OperationError: the result could not be written whole.
        Exit: nobody reads any more (`| head`); the code is a shell's for SIGPIPE, so that no gate passes.
    """
    try:
        yield
    except OSError as error:
        # What is still buffered would be tried again at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise click.exceptions.Exit(NOBODY_READS) from None
        raise OperationError(f"standard output: {error.strerror}; the result is not whole") from error


def screen() -> "Terminal":
    """Return what stdout can show."""
    from undercroft.cli.render.terminal import Terminal  # noqa: PLC0415 - not needed for --help

    return Terminal.of(sys.stdout)
