"""Processes that write to a record, so that tests can start many of them, and kill them.

Each prints a line for each transaction once it has been acknowledged.
"""

import subprocess
import sys

from recordvalues import decision, event, execution

from undercroft.store.fleet.records import open_records

COUNT_FOR_EVER = 1_000_000


def start(url: str, name: str, count: int = COUNT_FOR_EVER) -> "subprocess.Popen[str]":
    """Start a process that makes `count` transactions `NAME-NUMBER` and waits for a line on stdin before."""
    command = [sys.executable, __file__, url, name, str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def release(*writers: "subprocess.Popen[str]") -> None:
    """Let writers begin."""
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()


def acknowledged(writer: "subprocess.Popen[str]") -> list[str]:
    """Wait for a writer's end and return what it was told is on record; half a line is none."""
    assert writer.stdout is not None
    assert writer.stdin is not None
    text = writer.stdout.read()
    writer.stdout.close()
    writer.stdin.close()
    writer.wait()
    return text.split("\n")[:-1]


def _write(url: str, name: str, count: int) -> None:
    sys.stdin.readline()
    records = open_records(url)
    for number in range(count):
        ident = f"{name}-{number}"
        with records.transaction() as record:
            record.take_event(event(ident))
            record.put_execution(execution(number, eid=ident))
            record.put_decision(decision(ident, eid=ident))
        sys.stdout.write(f"{ident}\n")
        sys.stdout.flush()
    records.close()


if __name__ == "__main__":
    _write(sys.argv[1], sys.argv[2], int(sys.argv[3]))
