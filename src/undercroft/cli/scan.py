"""`undercroft scan`: what is installed and unpatched in every state of a machine."""

import os
import sys
from datetime import UTC, date, datetime
from typing import Any

import click

from undercroft.cli.exitcode import FailOn, exit_code, why
from undercroft.cli.options import examples, format_option, machine_options, opened, request, screen, show
from undercroft.cli.render import table
from undercroft.cli.render.escape import harmless
from undercroft.cli.render.progress import Progress
from undercroft.model.report import CURRENT, ScanReport
from undercroft.usecases.assess import assessor
from undercroft.usecases.report import scan_machine
from undercroft.usecases.session import Request

DAY = click.DateTime(["%Y-%m-%d"])


@click.command(
    short_help="What is installed and unpatched in every state of a machine.",
    epilog=examples(
        "undercroft scan web01.qcow2",
        "undercroft scan -a root.qcow2 -a data.qcow2",
        "undercroft scan -d web01 -v",
        "undercroft scan /var/lib/libvirt/images",
        "undercroft scan /srv/images --key db.qcow2:disk0p2=db.key",
        "undercroft scan web01.qcow2@current --fail-on kev -f sarif > web01.sarif",
    ),
)
@click.argument("images", nargs=-1, metavar="IMAGE[@STATE] | FOLDER...")
@machine_options
@format_option("table", "json", "yaml", "cyclonedx", "sarif")
@click.option("-v", "--verbose", is_flag=True, help="List each finding, package and volume.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
@click.option(
    "--fail-on",
    type=click.Choice([gate.value for gate in FailOn]),
    help="Exit with 6 when a state shown has such a finding; unknown severity counts as high.",
)
@click.option("--no-cache", is_flag=True, help="With folders: read all anew, and keep nothing.")
@click.option(
    "--as-of", type=DAY, metavar="DAY", help="Answer as of that day (YYYY-MM-DD), from dated records only."
)
def command(
    images: tuple[str, ...],
    output_format: str,
    verbose: bool,
    quiet: bool,
    fail_on: str | None,
    as_of: datetime | None,
    no_sandbox: bool,
    no_cache: bool,
    **options: Any,
) -> int:
    """Show what is installed and unpatched in the current state and in every snapshot of a machine.

    With a FOLDER, or several images, each image in it is a machine, or a base of others. Chains are found by
    the images' own headers among the files that were named, a clone shares what its base holds where that is
    proven, and what was read is kept, so that a scan that was cut off goes on where it was. There --key takes
    IMAGE:VOLUME=FILE too, and what a key opens is not kept.

    With @STATE only that state is shown: @current, a snapshot's name, or its ID. cyclonedx describes one
    state, the current one unless another is named.
    """
    if as_of and as_of.date() > datetime.now(UTC).date():
        raise click.UsageError(f"--as-of {as_of:%Y-%m-%d} lies in the future")
    day = as_of.date() if as_of else None
    gate = FailOn(fail_on) if fail_on else None
    if len(images) > 1 or any(os.path.isdir(image) for image in images):
        from undercroft.cli.scanmany import Wanted, extra_files, scan_many  # noqa: PLC0415 - for many only

        extra = extra_files(options)
        keys = options["key"]
        return scan_many(
            Wanted(images, extra, output_format, verbose, quiet, no_sandbox, no_cache, gate, day, keys)
        )
    asked, state = request(images[0] if images else None, options)
    if output_format == "cyclonedx":
        state = state or CURRENT
    report = _scan(asked, state, day, no_sandbox=no_sandbox, quiet=quiet)
    show(_rendered(report, output_format, verbose=verbose))
    if reason := why(report, gate):
        click.echo(harmless(f"undercroft: {reason}"), err=True)
    return exit_code(report, gate)


def _scan(
    asked: Request, state: str | None, as_of: date | None, *, no_sandbox: bool, quiet: bool
) -> ScanReport:
    now = datetime.now(UTC)
    with (
        opened(asked, no_sandbox=no_sandbox) as (machine, reader),
        assessor(now=now, as_of=as_of) as assess,
        Progress(sys.stderr, enabled=not quiet) as progress,
    ):
        return scan_machine(
            machine,
            assess,
            scanned_at=now,
            sandboxed=reader.sandboxed,
            as_of=as_of,
            states=[machine.state(state)] if state else (),
            progress=progress.update,
        )


def _rendered(report: ScanReport, output_format: str, *, verbose: bool) -> str:
    match output_format:
        case "table":
            return table.render(report, screen(), verbose=verbose)
        case "cyclonedx":
            from undercroft.cli.render.cyclonedx import render_cyclonedx  # noqa: PLC0415 - 100 ms to import

            return render_cyclonedx(report, report.states[0])
        case "sarif":
            from undercroft.cli.render.sarif import render_sarif  # noqa: PLC0415 - one format per run

            return render_sarif(report)
        case _:
            from undercroft.cli.render.data import render_scan  # noqa: PLC0415 - one format per run

            return render_scan(report, output_format)
