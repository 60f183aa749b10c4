"""A folder of images as an administrator scans it: table, lines for programs, exit codes, cut-off scans."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from diskimages import run as command
from layers import make_clone
from machineimages import debian_tree, make_machine, packages
from program import PROGRAM, Run

SCHEMAS = {
    f"undercroft/{name}/1": json.loads(
        (Path(__file__).parents[2] / f"docs/schema/{name}-v1.json").read_text()
    )
    for name in ("scan", "image", "images")
}
Scan = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def pool(tmp_path: Path, machine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine whose snapshot has a hole that is exploited, a clean one, and two clones of that one."""
    folder = tmp_path / "pool"
    folder.mkdir()
    shutil.copyfile(machine, folder / "zz-old.qcow2")
    tree = debian_tree(tmp_path / "tree", packages(10))
    make_machine(folder / "clean.qcow2", [("now", tree)])
    for number in range(2):
        make_clone(folder / "clean.qcow2", folder / f"clone{number}.qcow2")
    (folder / "notes.txt").write_text("not a disk")
    time.sleep(1.1)  # what is younger than a second proves nothing
    return folder


@pytest.fixture
def scan(run: Run, tmp_path: Path) -> Scan:
    def scan(*arguments: str | Path, **options: str) -> subprocess.CompletedProcess[str]:
        return run("scan", *arguments, UNDERCROFT_CACHE=f"{tmp_path}/cache/images.db", **options)

    return scan


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return the documents of a stream, each checked against its schema."""
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    for document in documents:
        jsonschema.validate(document, SCHEMAS[document["schema"]])
        if "scan" in document:
            jsonschema.validate(document["scan"], SCHEMAS[document["scan"]["schema"]])
    return documents


def test_the_worst_comes_first_and_each_state_has_a_row(scan: Scan, pool: Path) -> None:
    done = scan(pool)
    assert done.returncode == 0, done.stderr
    rows = [
        line.split()[0] for line in done.stdout.splitlines() if ".qcow2" in line and "COVERAGE" not in line
    ]
    assert rows[:2] == ["zz-old.qcow2@before-upgrade", "zz-old.qcow2"]
    assert sorted(rows[2:]) == ["clean.qcow2", "clone0.qcow2", "clone1.qcow2"]
    summary = " ".join(done.stdout.split("\n  2026-")[0].split())
    assert (
        summary == f"{pool} 4 images: 3 machines, 1 base, 2 proven to hold what their base holds, 1 left out"
    )
    assert "notes.txt: no disk image" in done.stdout
    assert done.stderr == ""


def test_programs_get_a_line_for_each_image_and_one_at_the_end(scan: Scan, pool: Path) -> None:
    *images, end = lines(scan(pool, "-f", "json"))
    assert [Path(image["path"]).name for image in images] == [
        "clean.qcow2",
        "zz-old.qcow2",
        "clone0.qcow2",
        "clone1.qcow2",
    ]
    assert [(image["role"], bool(image["shared"])) for image in images] == [
        ("base", False),
        ("machine", False),
        ("machine", True),
        ("machine", True),
    ]
    assert (end["schema"], end["complete"], end["images"], end["incomplete"]) == (
        "undercroft/images/1",
        True,
        4,
        0,
    )
    assert [(Path(one["path"]).name, one["unread"]) for one in end["left_out"]] == [("notes.txt", False)]


def test_an_image_among_many_says_what_it_says_alone(scan: Scan, pool: Path) -> None:
    *images, _end = lines(scan(pool, "-f", "json"))
    for image in images:
        alone = json.loads(scan(image["path"], "--backing", pool / "clean.qcow2", "-f", "json").stdout)
        for one in (alone, image["scan"]):
            del one["scanned_at"]
            for state in one["states"]:
                del state["read_ms"]
        assert image["scan"] == alone


def test_exit_codes_are_those_of_all_images(scan: Scan, pool: Path, tmp_path: Path) -> None:
    assert scan(pool).returncode == 0
    assert scan(pool, "--fail-on", "kev").returncode == 6
    (pool / "broken.qcow2").write_bytes(b"QFI\xfb\0\0\0\3" + bytes(500))
    broken = scan(pool, "--fail-on", "kev")
    assert broken.returncode == 4, "what is unknown goes before what was found"
    assert "broken.qcow2: " in broken.stdout
    (tmp_path / "empty").mkdir()
    nothing = scan(tmp_path / "empty")
    assert (nothing.returncode, nothing.stderr) == (4, "undercroft: no disk image lies in what was named\n")
    (tmp_path / "empty" / "link.qcow2").symlink_to(pool / "clean.qcow2")
    assert scan(tmp_path / "empty", pool / "clone0.qcow2").returncode == 4
    assert scan(tmp_path / "none", pool).returncode == 3


@pytest.mark.parametrize(
    "option", [["-f", "sarif"], ["-f", "cyclonedx"], ["-a", "x"], ["-d", "x"], ["--image-format", "raw"]]
)
def test_what_holds_for_one_machine_alone_is_refused(scan: Scan, pool: Path, option: list[str]) -> None:
    assert scan(pool, *option).returncode == 2


def test_several_images_may_be_named_and_are_read_whatever_they_are_called(scan: Scan, pool: Path) -> None:
    shutil.copyfile(pool / "notes.txt", pool / "vm")
    *images, _end = lines(
        scan(pool / "clone0.qcow2", pool / "vm", "--backing", pool / "clean.qcow2", "-f", "json")
    )
    assert {Path(image["path"]).name: image["complete"] for image in images} == {
        "clone0.qcow2": True,
        "vm": False,
    }


def test_verbose_shows_each_image_whole_before_the_table(scan: Scan, pool: Path) -> None:
    shown = scan(pool, "-v").stdout
    assert shown.count("  disk0  ") == 4
    assert "CVE-2024-0001" in shown
    assert shown.rindex("VOLUMES") < shown.index("4 images:")


def started(scan_of: Path, folder: Path, database: Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "UNDERCROFT_DATABASE": str(database),
        "UNDERCROFT_CACHE": f"{folder}/cache/images.db",
    }
    process = subprocess.Popen(
        [str(PROGRAM), "scan", str(scan_of), "-f", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        # Whoever runs the tests in the background may have SIGINT ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    assert process.stdout is not None
    fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)  # it waits for its reader, and has not ended yet
    return process


def many(pool: Path, count: int) -> None:
    """Fill a folder with copies of a machine: none is another's clone, so that each has to be read."""
    for number in range(count):
        shutil.copyfile(pool / "clean.qcow2", pool / f"copy{number:03}.qcow2")
    time.sleep(1.1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_scan_that_was_cut_off_goes_on_where_it_was(
    scan: Scan, pool: Path, tmp_path: Path, database: Path, number: signal.Signals
) -> None:
    many(pool, 16)
    begun = started(pool, tmp_path, database)
    assert begun.stdout is not None
    told = [json.loads(begun.stdout.readline())["path"] for _ in range(3)]
    os.kill(begun.pid, number)
    rest, _errors = begun.communicate(timeout=60)
    assert begun.returncode == (-signal.SIGKILL if number is signal.SIGKILL else 130)
    assert "undercroft/images/1" not in rest, "a stream that was cut off does not end as a whole one does"
    *images, end = lines(scan(pool, "-f", "json"))
    assert (end["complete"], end["images"]) == (True, 20)
    kept = {image["path"] for image in images if image["kept"]}
    assert set(told) <= kept
    assert len(kept) < 20
    assert wait_for_no_process_of(begun.pid)


def wait_for_no_process_of(session: int) -> bool:
    """Wait until nothing of a session of processes is left."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = command("ps", "-e", "-o", "sess=").split()
        if str(session) not in found:
            return True
        time.sleep(0.05)
    return False


def test_without_a_cache_nothing_is_kept(scan: Scan, pool: Path, tmp_path: Path) -> None:
    for _ in range(2):
        *images, _end = lines(scan(pool, "-f", "json", "--no-cache"))
        assert not any(image["kept"] for image in images)
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_others_may_write_is_not_used_and_the_scan_goes_on(
    scan: Scan, pool: Path, tmp_path: Path
) -> None:
    scan(pool)
    (tmp_path / "cache" / "images.db").chmod(0o666)
    done = scan(pool, "-f", "json")
    assert done.returncode == 0
    assert "is not this user's alone" in done.stderr
    assert not any(image["kept"] for image in lines(done)[:-1])
