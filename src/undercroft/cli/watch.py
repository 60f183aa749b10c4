"""`undercroft watch`: what happens and what is decided, as it goes into the log."""

import select
import sys

import click

from undercroft.cli.fleetoptions import record_option
from undercroft.cli.options import NOBODY_READS, examples, format_option, screen, show
from undercroft.usecases.fleet.views.existing import existing_records

POLL_MS = 500
"""Between two looks at the log."""


@click.command(
    short_help="Live events and decisions.",
    epilog=examples(
        "undercroft watch",
        "undercroft watch --last 20 --machine web01",
        "undercroft watch -f json --since 1234 >> events.jsonl",
    ),
)
@format_option("table", "json")
@click.option(
    "--since",
    type=click.IntRange(min=0),
    metavar="NUMBER",
    help="Begin after that entry of the log.",
)
@click.option("-n", "--last", type=click.IntRange(min=0), metavar="N", help="Begin with the last N entries.")
@click.option("--machine", default="", metavar="NAME", help="Only what is about this machine (name or UUID).")
@record_option
def command(output_format: str, since: int | None, last: int | None, machine: str, database: str) -> None:
    """Show what happens to machines and what is decided about them, until Ctrl-C.

    Every line is an entry of the audit log: decisions at starts, changes of verdict, executions that begin
    and end, networks that close and open, alarms. Times are UTC. With json, one line is one object, the
    agent's heartbeats included; its number is where --since takes up again.
    """
    if since is not None and last is not None:
        raise click.UsageError("give --since or --last, not both")
    from undercroft.cli.render import watch as lines  # noqa: PLC0415 - not for --help
    from undercroft.usecases.fleet.views.follow import follow  # noqa: PLC0415
    from undercroft.usecases.fleet.views.machine import find_machine  # noqa: PLC0415

    terminal, day = screen(), ""
    with existing_records(database) as records:
        with records.reading() as record:
            wanted = find_machine(record, machine).domain.uuid if machine else ""
            head = record.log_head()[1]
        after = since if since is not None else max(head - (last or 0), 0)
        for told in follow(records, after, _pause):
            if wanted and told.machine != wanted:
                continue
            if output_format == "json":
                show(lines.json_line(told.entry, told.name))
                continue
            if lines.is_heartbeat(told.entry):
                continue
            if day != (day := f"{told.entry.at:%Y-%m-%d}"):
                show(lines.render_day(told.entry, terminal))
            show(lines.render_entry(told.entry, told.name, terminal))


def _pause() -> None:
    """Wait a little. Raises Exit where nobody reads any more (`| head`): the next write may be far off."""
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)  # 0: only what cannot be masked, an error or a hang-up
    if poller.poll(POLL_MS):
        raise click.exceptions.Exit(NOBODY_READS)
