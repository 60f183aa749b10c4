"""`undercroft diff`: what changed between two states, and what a revert brings back."""

import os
import sys
from datetime import UTC, datetime
from typing import Any

import click

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.options import examples, format_option, machine_options, opened, request, screen, show
from undercroft.cli.render import data
from undercroft.cli.render.diff import render_diff
from undercroft.cli.render.progress import Progress
from undercroft.model.report import CURRENT, StateReport
from undercroft.usecases.assess import assessor
from undercroft.usecases.diff import diff_states
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.report import scan_machine
from undercroft.usecases.session import Request, open_machine


@click.command(
    short_help="What changed between two states, and what a revert brings back.",
    epilog=examples(
        "undercroft diff web01.qcow2@before-upgrade web01.qcow2",
        "undercroft diff -d web01 @before-upgrade @current",
        "undercroft diff golden.qcow2 web01.qcow2 -f json",
    ),
)
@click.argument("before", metavar="IMAGE[@STATE]")
@click.argument("after", required=False, metavar="IMAGE[@STATE]")
@machine_options
@format_option("table", "json", "yaml")
@click.option("-v", "--verbose", is_flag=True, help="List each finding and package.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def command(
    before: str,
    after: str | None,
    output_format: str,
    verbose: bool,
    quiet: bool,
    no_sandbox: bool,
    **options: Any,
) -> int:
    """Show what changed from one state to another: packages, and the findings that came and went.

    The second state is the current one of the same machine unless it is named.
    """
    first, from_state = _named(before, options)
    second, to_state = first, CURRENT
    if after and after.startswith("@"):
        to_state = after[1:] or CURRENT
    elif after:
        second, to_state = _named(after, options)
    if (second, to_state) == (first, from_state):
        raise click.UsageError(
            f"both are {_names(first, from_state)}; name a state as IMAGE@STATE (undercroft scan lists them)"
        )
    with (
        opened(first, no_sandbox=no_sandbox) as (machine, reader),
        assessor(now=(now := datetime.now(UTC))) as assess,
        Progress(sys.stderr, enabled=not quiet) as progress,
    ):

        def report(machine: OpenMachine, state: str) -> StateReport:
            wanted = [machine.state(state)]
            scanned = scan_machine(
                machine,
                assess,
                scanned_at=now,
                sandboxed=reader.sandboxed,
                states=wanted,
                progress=progress.update,
            )
            return scanned.states[0]

        old = report(machine, from_state)
        if second == first:
            new = report(machine, to_state)
        else:
            with open_machine(second, reader) as other:
                new = report(other, to_state)
    names = _names(first, from_state), _names(second, to_state)
    diff = diff_states(old, new, from_name=names[0], to_name=names[1])
    if output_format == "table":
        show(render_diff(diff, screen(), verbose=verbose))
    else:
        show(data.render_diff(diff, output_format))
    return ExitCode.CLEAN if diff.complete else ExitCode.INCOMPLETE


def _named(reference: str, options: dict[str, Any]) -> tuple[Request, str]:
    asked, state = request(reference, dict(options))
    return asked, state or CURRENT


def _names(asked: Request, state: str) -> str:
    """Return what the user calls a state, short enough for a headline."""
    return f"{asked.domain or os.path.basename(asked.images[0])}@{state}"
