"""The installed program over a real record: two processes meet there, and libvirt is really changed."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import fleetdata
import libvirtd
import pytest
from program import PROGRAM

from undercroft.adapters.libvirt.fleet import LibvirtFleet
from undercroft.cli.options import NOBODY_READS
from undercroft.store.fleet.records import open_records

MISSING = libvirtd.missing()
DEFINITION = """<domain type='qemu'><name>plain01</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.db"
    records = open_records(str(path))
    fleetdata.fill(records)
    records.close()
    return path


def environment(database: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "UNDERCROFT_FLEET_DATABASE": str(database), **more}


def program(database: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), *arguments],
        env=environment(database, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def watching(database: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [str(PROGRAM), "watch", "-f", "json", "--last", "1"],
        env=environment(database),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore SIGINT, and pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    yield process
    process.kill()
    process.communicate()


def test_a_watcher_sees_what_another_process_logs_and_ends_at_ctrl_c(
    database: Path, watching: subprocess.Popen[str]
) -> None:
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["kind"] == "agent"
    records = open_records(str(database))
    with records.transaction() as record:
        record.log("alarm", fleetdata.WEB01.uuid, {"reason": "look here"}, fleetdata.NOW)
    records.close()
    line = json.loads(watching.stdout.readline())
    assert (line["kind"], line["name"], line["body"]) == ("alarm", "web01", {"reason": "look here"})
    watching.send_signal(signal.SIGINT)
    output, complaints = watching.communicate(timeout=60)
    assert (watching.returncode, output, complaints.strip()) == (130, "", "")


def test_a_watcher_that_nobody_reads_ends(database: Path) -> None:
    pipe = f"'{PROGRAM}' watch --since 0; echo $? >&2"
    shown = subprocess.run(
        ["bash", "-c", f"({pipe}) | head -1"],
        env=environment(database),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.stderr == f"{NOBODY_READS}\n"


def test_the_tables_of_a_plain_terminal_need_no_more_than_ascii(database: Path) -> None:
    shown = program(database, "fleet", COLUMNS="80", PYTHONIOENCODING="ascii")
    assert shown.stdout.isascii()
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_a_scan_still_loads_no_database(database: Path) -> None:
    """The commands of the fleet are imported only when they run."""
    code = (
        "import sys; from undercroft.cli.program import run; run(['scan', '--help']); "
        "print([name for name in ('sqlalchemy', 'asyncio', 'pydantic') if name in sys.modules])"
    )
    python = str(PROGRAM.with_name("python"))
    shown = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"


PROVELESS = (
    *("--help", "scan --help", "fleet", "fleet --help", "machine web01", "lineage", "audit verify"),
    *("policy check missing.yaml", "doctor --help", "doctor -c qemu+unix:///system?socket=/missing"),
    *("watch --help", "firewall --help", "firewall prove --help", "firewall status", "up --help"),
)


def test_only_what_proves_loads_the_prover(database: Path) -> None:
    """Z3 takes time and memory that nothing but a proof needs."""
    code = (
        "import sys; from undercroft.cli.program import run; "
        "print([line for line in sys.argv[1:] if run(line.split()) is None or 'z3' in sys.modules])"
    )
    variables = {
        **dict.fromkeys(("UNDERCROFT_STATE", "UNDERCROFT_RUN", "UNDERCROFT_ETC"), str(database.parent)),
        "UNDERCROFT_FLEET_DATABASE": str(database),
        "PATH": os.environ["PATH"],
    }
    # A network of its own: `doctor` looks at the packet filter.
    apart = ["unshare", "-n"] if os.geteuid() == 0 else []
    command = [*apart, str(PROGRAM.with_name("python")), "-c", code, *PROVELESS]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=variables)
    assert shown.stdout.splitlines()[-1] == "[]"


def test_control_the_prover_is_seen_where_it_is_loaded() -> None:
    code = "import sys, undercroft.usecases.firewall.proving; print('z3' in sys.modules)"
    python = str(PROGRAM.with_name("python"))
    shown = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "True\n"


@pytest.mark.libvirt
@pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run")
@pytest.mark.skipif(shutil.which("virsh") is None, reason="needs virsh")
def test_genid_and_ownership_reach_libvirts_definition(tmp_path: Path) -> None:
    database = tmp_path / "fleet.db"
    with libvirtd.running() as daemon:

        def virsh(*arguments: str) -> str:
            command = ["virsh", "-c", daemon.uri, *arguments]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        definition = tmp_path / "plain01.xml"
        definition.write_text(DEFINITION)
        virsh("define", str(definition))
        assert "<genid>" not in virsh("dumpxml", "plain01")
        records = open_records(str(database))
        with LibvirtFleet(daemon.uri) as fleet, records.transaction() as record:
            record.put_survey(fleet.survey())
        arguments = ["machine", "plain01", "-c", daemon.uri, "--yes", "--mend", "genid", "--owner", "ops"]
        changed = program(database, *arguments)
        assert changed.returncode == 0, changed.stderr
        assert "<genid>" in virsh("dumpxml", "plain01")
        assert "ops" in virsh("metadata", "plain01", "urn:undercroft:machine:1")
        again = program(database, "machine", "plain01", "-c", daemon.uri, "--yes", "--mend", "genid")
        assert (again.returncode, "already" in again.stderr) == (1, True)
        with records.reading() as record:
            bodies = [json.loads(entry.body) for entry in record.log_entries() if entry.kind == "mend"]
        records.close()
    assert [body["what"] for body in bodies] == ["genid", "ownership"]
    assert all(body["by"] for body in bodies)
