"""The group of commands, and what every error becomes."""

import importlib
import os
import traceback
from typing import Any

import click

from undercroft.cli import INTERRUPTED
from undercroft.cli.render.escape import harmless, harmless_lines
from undercroft.errors import UndercroftError
from undercroft.ports.reader import Reader
from undercroft.version import VERSION

_COMMANDS = {
    "up": "Run the agent: watch, judge and admit this host's machines.",
    "doctor": "Whether this host can enforce, and how to mend what is missing.",
    "fleet": "Every machine in every state, with its verdict.",
    "machine": "One machine: states, findings, executions, decisions.",
    "lineage": "The tree of a machine's executions, in the terminal and as a picture.",
    "watch": "Live events and decisions.",
    "revert": "Check what a snapshot would bring back, then revert.",
    "release": "Let a machine out of quarantine.",
    "retention": "Snapshots past their age, and the secrets they hold.",
    "firewall": "Filter machines at their ports: plan, apply, prove, show, trace, map.",
    "host": "The hosts of the record; forget one that is gone for good.",
    "channel": "The channel beneath a guest: enable it, and who has fresh randomness.",
    "snapshot": "Take a snapshot of a guest that stands still, so that nothing in it repeats.",
    "vault": "What guests keep beneath themselves; verify it, adopt a loss.",
    "policy": "Check a policy, and explain a verdict rule by rule.",
    "audit": "Verify and export the log of decisions.",
    "scan": "What is installed and unpatched in every state of a machine.",
    "packages": "The packages of one state.",
    "diff": "What changed between two states, and what a revert brings back.",
    "files": "List or print files of a state.",
    "feeds": "Update, import and show the advisories.",
}


_HIDDEN = {"guest-service": "guestservice"}
"""Commands that units and `undercroft up` run, with their modules: nobody types them."""

_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What click 8.2 and newer raise for a group without a command; older ones print the help themselves."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they run, so that --help stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which a newcomer needs them."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        del ctx
        if cmd_name not in _COMMANDS and cmd_name not in _HIDDEN:
            return None
        module = importlib.import_module(f"undercroft.cli.{_HIDDEN.get(cmd_name, cmd_name)}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, each with its one line, and import none of them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExample:\n  undercroft feeds update\n  undercroft scan web01.qcow2\n  undercroft fleet",
)
@click.version_option(VERSION, prog_name="undercroft")
def undercroft() -> None:
    """The security layer beneath virtual machines.

    Says what is unpatched in every state of a machine, decides which machines start on a libvirt host, and
    keeps the history that a rollback cannot hide. From outside: nothing is booted, mounted or installed in
    the guest.
    """


def run(arguments: list[str], reader: Reader | None = None) -> int:
    """Run the command line and return its exit code; every error is told on stderr, a line per mistake.

    Args:
        arguments: without the program's name.
        reader: one that was started early, for the first command that needs one; closed here.
    """
    try:
        result: Any = undercroft.main(arguments, prog_name="undercroft", standalone_mode=False, obj=reader)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except _NO_ARGUMENTS as error:
        click.echo(error.ctx.get_help(), err=True)
        return int(error.exit_code)
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(
                f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n", err=True
            )
        _complain(error.format_message())
        return error.exit_code
    except UndercroftError as error:
        _complain(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the edge: logged whole, answered with nothing specific
        if os.environ.get("UNDERCROFT_DEBUG"):
            for line in traceback.format_exc().splitlines():
                click.echo(harmless(line), err=True)
        _complain(
            f"internal error ({type(error).__name__}); UNDERCROFT_DEBUG=1 shows where; please report it"
        )
        return 1
    finally:
        if reader is not None:
            reader.close()


def _complain(message: str) -> None:
    click.echo(f"undercroft: error: {harmless_lines(message)}", err=True)
