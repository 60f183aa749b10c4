"""A scan as an administrator sees it: the installed program, real images, its output and exit codes."""

import hashlib
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from diskimages import create_qcow2, to_raw, wrap_gpt
from diskimages import run as command
from machineimages import debian_tree, make_filesystem, make_machine, packages
from program import PROGRAM, Run

import undercroft


def test_a_scan_names_what_a_revert_would_bring_back(run: Run, machine: Path) -> None:
    done = run("scan", machine)
    assert done.returncode == 0, done.stderr
    assert "Debian GNU/Linux 12" in done.stdout
    assert "KNOWN TO BE EXPLOITED\n  CVE-2024-0001" in done.stdout
    assert "Going back to before-upgrade brings back 1 finding, 1 known to be exploited" in done.stdout


def test_each_state_has_its_own_packages_and_findings(run: Run, machine: Path) -> None:
    report = json.loads(run("scan", machine, "-f", "json").stdout)
    states = {state["name"]: state for state in report["states"]}
    found = {
        name: {finding["vulnerability"] for finding in state["assessment"]["findings"]}
        for name, state in states.items()
    }
    assert found == {
        "current": {"CVE-2024-0002"},
        "before-upgrade": {"CVE-2024-0001", "CVE-2024-0002"},  # CVE-2024-0003 does not affect bookworm
    }
    assert report["complete"] is True
    assert report["sandboxed"] is True


def test_the_program_and_the_api_agree(run: Run, machine: Path, database: Path) -> None:
    report = undercroft.scan(str(machine), database=str(database))
    printed = json.loads(run("scan", machine, "-f", "json").stdout)
    assert [state.name for state in report.states] == [state["name"] for state in printed["states"]]
    for state, other in zip(report.states, printed["states"], strict=True):
        assert state.inventory is not None
        assert [package.version for package in state.inventory.packages] == [
            package["version"] for package in other["inventory"]["packages"]
        ]
    again = undercroft.assess(undercroft.packages(str(machine), "before-upgrade"), database=str(database))
    assert again.findings == report.states[1].assessment.findings  # type: ignore[union-attr] # checked above


@pytest.mark.parametrize(
    ("state", "gate", "code"),
    [
        ("current", None, 0),
        ("current", "kev", 0),
        ("current", "fixable", 0),
        ("current", "high", 6),  # its one finding has no known severity, which passes no gate
        ("before-upgrade", "kev", 6),
        ("before-upgrade", "fixable", 6),
        ("1", "any", 6),
    ],
)
def test_gates(run: Run, machine: Path, state: str, gate: str | None, code: int) -> None:
    options = ["--fail-on", gate] if gate else []
    assert run("scan", f"{machine}@{state}", *options).returncode == code


def test_without_advisories_nothing_is_clean(run: Run, machine: Path, tmp_path: Path) -> None:
    done = run("scan", machine, UNDERCROFT_DATABASE=str(tmp_path / "none.db"))
    assert done.returncode == 4
    assert "undercroft feeds update" in done.stdout


def test_as_of_answers_from_dated_records_only(run: Run, machine: Path) -> None:
    done = run("scan", machine, "--as-of", "2024-01-31")
    assert done.returncode == 4
    assert "2024-01-31" in done.stdout


def test_packages_files_and_diff_look_into_any_state(run: Run, machine: Path) -> None:
    listed = run("packages", f"{machine}@before-upgrade").stdout
    assert "libssl3" in listed
    assert "3.0.11-1~deb12u2" in listed
    assert run("files", "cat", machine, "/etc/motd").stdout == "upgraded\n"
    missing = run("files", "cat", f"{machine}@before-upgrade", "/etc/motd")
    assert missing.returncode == 3
    assert "/etc/motd" in missing.stderr
    assert "os-release → ../usr/lib/os-release" in run("files", "ls", machine, "/etc").stdout
    changed = json.loads(run("diff", f"{machine}@before-upgrade", machine, "-f", "json").stdout)
    assert [change["name"] for change in changed["upgraded"]] == ["libssl3"]
    assert [finding["vulnerability"] for finding in changed["findings_lost"]] == ["CVE-2024-0001"]


@pytest.mark.parametrize("output_format", ["json", "yaml", "cyclonedx", "sarif"])
def test_every_format_is_written_whole(run: Run, machine: Path, output_format: str) -> None:
    done = run("scan", machine, "-f", output_format)
    assert done.returncode == 0, done.stderr
    assert "CVE-2024-0002" in done.stdout
    assert "3.0.15-1~deb12u1" in done.stdout
    if output_format != "yaml":
        json.loads(done.stdout)


def test_what_the_users_own_vex_sets_aside_is_said_and_can_be_taken_back(
    run: Run, machine: Path, database: Path, tmp_path: Path
) -> None:
    own = {"UNDERCROFT_DATABASE": shutil.copy(database, tmp_path / "advisories.db")}
    document = {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://example.org/vex/1",
        "author": "us",
        "timestamp": "2024-06-01T00:00:00Z",
        "version": 1,
        "statements": [
            {
                "vulnerability": {"name": "CVE-2024-0002"},
                "products": [{"@id": "pkg:deb/debian/libssl3"}],
                "status": "not_affected",
                "justification": "vulnerable_code_not_in_execute_path",
            }
        ],
    }
    (tmp_path / "ours.json").write_text(json.dumps(document))
    assert run("scan", f"{machine}@current", "--fail-on", "any", **own).returncode == 6
    imported = run("feeds", "import", tmp_path / "ours.json", **own)
    assert imported.returncode == 0, imported.stdout
    clean = run("scan", f"{machine}@current", "--fail-on", "any", **own)
    assert clean.returncode == 0
    assert "set aside by your OpenVEX documents: CVE-2024-0002" in clean.stdout
    bill = json.loads(run("scan", machine, "-f", "cyclonedx", **own).stdout)
    assert [entry["analysis"]["state"] for entry in bill["vulnerabilities"]] == ["not_affected"]
    (feed,) = [line.split()[0] for line in run("feeds", "status", **own).stdout.splitlines() if "vex" in line]
    assert run("feeds", "remove", feed, **own).returncode == 0
    assert run("scan", f"{machine}@current", "--fail-on", "any", **own).returncode == 6


def test_a_scan_leaves_the_image_as_it_was(run: Run, machine: Path) -> None:
    before = hashlib.sha256(machine.read_bytes()).digest(), machine.stat().st_mtime_ns
    run("scan", machine)
    assert (hashlib.sha256(machine.read_bytes()).digest(), machine.stat().st_mtime_ns) == before


def test_two_disks_are_one_machine(run: Run, tmp_path: Path) -> None:
    fstab = (
        b"UUID=6e9a1c52-0b5e-4d6f-9a3c-1f2d3e4c5b6a / ext4 defaults 0 1\nLABEL=var /var ext4 defaults 0 2\n"
    )
    root = debian_tree(tmp_path / "root", packages(3), {"etc/fstab": fstab})
    var = tmp_path / "var"
    shutil.move(root / "var" / "lib", var / "lib")
    disks = []
    for name, tree, label in (("root", root, "root"), ("var", var, "var")):
        filesystem = make_filesystem(tree, tmp_path / f"{name}.fs", "-t", "ext4", "-L", label)
        disks.append(wrap_gpt(tmp_path / f"{name}.raw", [filesystem]))
    command("tune2fs", "-U", "random", tmp_path / "var.fs")  # the two came out with one UUID
    wrap_gpt(disks[1], [tmp_path / "var.fs"])
    both = run("packages", "-a", disks[0], "-a", disks[1])
    assert both.returncode == 0, both.stdout
    assert both.stdout.count("pkg000") == 3
    alone = run("scan", disks[0])
    assert alone.returncode == 4
    assert "LABEL=var" in alone.stdout


def test_a_chain_is_read_only_where_it_is_named(run: Run, machine: Path, tmp_path: Path) -> None:
    top = tmp_path / "top.qcow2"
    command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", machine, top)
    refused = run("scan", top)
    assert refused.returncode == 4
    assert "--backing" in refused.stdout
    named = run("packages", top, "--backing", machine)
    assert named.returncode == 0, named.stdout
    assert "3.0.15-1~deb12u1" in named.stdout


@pytest.mark.parametrize("relative", [False, True])
def test_a_planted_backing_file_is_never_opened(run: Run, tmp_path: Path, relative: bool) -> None:
    secret = tmp_path / "secret.raw"
    secret.write_bytes(b"TOP-SECRET-OF-THE-HOST" * 100_000)
    planted = create_qcow2(tmp_path / "planted.qcow2", 1 << 21, backing=secret, backing_format="raw")
    if relative:
        command("qemu-img", "rebase", "-u", "-F", "raw", "-b", "../" + str(secret)[1:], planted)
    if not relative:  # the control: QEMU's own tool does follow it
        disclosed = to_raw(planted, tmp_path / "disclosed.raw").read_bytes()
        assert b"TOP-SECRET-OF-THE-HOST" in disclosed
    done = run("scan", planted)
    assert done.returncode == 4
    assert "SECRET" not in done.stdout + done.stderr


def test_a_qcow2_header_that_a_guest_wrote_on_a_raw_disk_is_refused(
    run: Run, machine: Path, tmp_path: Path
) -> None:
    raw = to_raw(machine, tmp_path / "disk.raw")
    planted = create_qcow2(tmp_path / "planted.qcow2", 1 << 20, backing=machine).read_bytes()[:446]
    with raw.open("r+b") as disk:
        disk.write(planted)
    done = run("scan", raw)
    assert done.returncode == 4
    assert "--image-format" in done.stdout
    told = run("packages", raw, "--image-format", "raw")
    assert told.returncode == 0, told.stdout


def test_bad_input_is_one_line_with_its_own_exit_code(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.qcow2").touch()
    os.mkfifo(tmp_path / "fifo.qcow2")
    (tmp_path / "text.qcow2").write_text("no image\n" * 100)
    for what, name, code, text in [
        ("scan", "missing.qcow2", 3, "no such file"),
        ("packages", "", 1, "a directory"),  # of a folder's many machines only a scan tells
        ("scan", "@current", 1, "a directory"),
        ("scan", "empty.qcow2", 1, "0 bytes"),
        ("scan", "fifo.qcow2", 1, "neither a file nor a block device"),
    ]:
        done = run(what, f"{tmp_path}/{name}")
        assert (done.returncode, done.stdout) == (code, "")
        assert text in done.stderr
        assert done.stderr.count("\n") == 1
    unknown = run("scan", tmp_path / "text.qcow2")
    assert unknown.returncode == 4
    assert run("scan").returncode == 2
    assert run("scan", "-d", "web01", tmp_path / "text.qcow2").returncode == 2


def test_a_truncated_image_is_incomplete_and_says_where(run: Run, machine: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.qcow2"
    short.write_bytes(machine.read_bytes()[:400_000])
    done = run("scan", short)
    assert done.returncode == 4
    assert "INCOMPLETE" in done.stdout


def test_an_image_that_changes_under_the_read_is_marked_unstable(
    run: Run, machine: Path, tmp_path: Path
) -> None:
    image = tmp_path / "live.qcow2"
    shutil.copy(machine, image)
    stop = threading.Event()

    def touch() -> None:
        with image.open("r+b") as file:
            while not stop.is_set():
                file.write(b"QFI\xfb")
                file.flush()
                file.seek(0)

    def met(code: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run until a read of a few milliseconds has met a write, which a busy machine may hold back."""
        for _ in range(5):
            done = run(*arguments)
            if done.returncode == code:
                break
        return done

    writer = threading.Thread(target=touch)
    writer.start()
    try:
        done = met(4, "scan", image)
        listed = met(4, "packages", image)
        content = met(1, "files", "cat", image, "/etc/motd")
    finally:
        stop.set()
        writer.join()
    assert (done.returncode, listed.returncode, content.returncode) == (4, 4, 1)
    assert "changed" in done.stdout
    assert "changed" in listed.stdout
    assert "changed" in content.stderr
    assert run("scan", image).returncode == 0


def test_an_image_that_a_running_qemu_writes_to_is_incomplete_but_its_snapshots_are_not(
    run: Run, machine: Path, tmp_path: Path
) -> None:
    image = tmp_path / "busy.qcow2"
    shutil.copy(machine, image)
    writer = subprocess.Popen(["qemu-io", image], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while (done := run("scan", image)).returncode == 0 and time.monotonic() < deadline:
            time.sleep(0.1)
        snapshot = run("scan", f"{image}@before-upgrade")
    finally:
        writer.communicate()
    assert done.returncode == 4
    assert "-d NAME" in done.stdout
    assert snapshot.returncode == 0
    assert run("scan", image).returncode == 0


def test_a_file_whose_name_ends_like_a_state_is_scanned_whole(
    run: Run, machine: Path, tmp_path: Path
) -> None:
    image = tmp_path / "web@current"
    shutil.copy(machine, image)
    assert "2 states" in run("scan", image).stdout


def test_two_snapshots_with_one_id_are_refused(run: Run, machine: Path, tmp_path: Path) -> None:
    image = tmp_path / "twice.qcow2"
    shutil.copy(machine, image)
    command("qemu-img", "snapshot", "-c", "second", image)
    content = image.read_bytes()
    assert content.count(b"2second") == 1
    image.write_bytes(content.replace(b"2second", b"1second"))
    done = run("packages", f"{image}@second")
    assert done.returncode in (3, 4)
    assert "libssl3" not in done.stdout


def test_what_a_guest_wrote_is_escaped(run: Run, tmp_path: Path) -> None:
    evil = "\x1b[2Jowned\u202e[red]"
    release = f'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="{evil}"\n'.encode()
    tree = debian_tree(tmp_path / "tree", packages(2), {"usr/lib/os-release": release})
    (tree / "etc" / os.fsdecode(b"bad\xff\x1bname")).touch()
    image = make_machine(tmp_path / "evil.qcow2", [("now", tree)])
    for arguments in (["scan", image], ["scan", image, "-f", "json"], ["files", "ls", image, "/etc"]):
        done = run(*arguments)
        assert "\x1b" not in done.stdout
        assert "\u202e" not in done.stdout
    assert r"bad\xFF\u001Bname" in run("files", "ls", image, "/etc").stdout


def test_an_unknown_filesystem_and_an_empty_disk_are_not_clean(run: Run, tmp_path: Path) -> None:
    noise = tmp_path / "noise.raw"
    noise.write_bytes(os.urandom(1 << 20))
    blank = tmp_path / "blank.raw"
    blank.write_bytes(bytes(1 << 20))
    for image in (noise, blank):
        done = run("scan", image)
        assert done.returncode == 4, image
        assert run("packages", image).returncode == 4


def test_no_sandbox_is_recorded(run: Run, machine: Path) -> None:
    done = run("scan", machine, "--no-sandbox")
    assert "read without the sandbox" in done.stdout
    assert json.loads(run("scan", machine, "--no-sandbox", "-f", "json").stdout)["sandboxed"] is False


def test_where_no_sandbox_can_be_had_the_scan_refuses_and_says_the_cure(
    run: Run, machine: Path, tmp_path: Path
) -> None:
    done = run("scan", machine, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "bubblewrap" in done.stderr
    assert "--no-sandbox" in done.stderr


def test_a_block_device_is_read_like_a_file(run: Run, machine: Path, tmp_path: Path) -> None:
    raw = to_raw(machine, tmp_path / "disk.raw")
    try:
        device = command("losetup", "-r", "-f", "--show", raw).strip()
    except AssertionError as error:
        pytest.skip(f"needs a loop device: {error}")
    try:
        done = run("packages", device)
    finally:
        command("losetup", "-d", device)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "3.0.15-1~deb12u1" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["diff", "{machine}"], "name a state"),
        (["scan", "{machine}", "{machine}", "-f", "sarif"], "sarif describes one machine"),
        (["scan", "{machine}", "--as-of", "2999-01-01"], "in the future"),
        (["files", "cat", "{machine}"], "give the PATH"),
        (["files", "ls", "{machine}", "etc"], "/etc"),
        (["feeds", "update", "--for", "{machine}"], "--mirror"),
    ],
)
def test_a_call_that_means_nothing_is_a_usage_error_that_says_what_to_type(
    run: Run, machine: Path, arguments: list[str], text: str
) -> None:
    done = run(*(word.format(machine=machine) for word in arguments))
    assert done.returncode == 2
    assert text in done.stderr


def test_a_full_disk_under_the_output_is_an_error(machine: Path, database: Path) -> None:
    environment = {**os.environ, "UNDERCROFT_DATABASE": str(database)}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [PROGRAM, "scan", machine],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr


def test_a_diff_within_one_machine_needs_its_name_once(run: Run, machine: Path) -> None:
    changed = run("diff", f"{machine}@before-upgrade", "@current")
    assert changed.returncode == 0, changed.stderr
    assert "libssl3" in changed.stdout


def test_nobody_reading_lets_no_gate_pass(machine: Path, database: Path) -> None:
    environment = {**os.environ, "UNDERCROFT_DATABASE": str(database)}
    line = f"{PROGRAM} scan {machine} -f json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (141, "")


def test_what_a_usage_error_quotes_is_escaped(run: Run) -> None:
    done = run("diff", "a\x1b[31mX@s", "a\x1b[31mX@s")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
