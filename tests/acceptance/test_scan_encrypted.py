"""Encrypted machines through the command line and the API: keys open them, and show nowhere."""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from diskimages import make_qcow2, run, wrap_gpt
from luksimages import PASSPHRASE, encrypted2, volume_key
from luksmaker import PASSPHRASE as MADE_PASSPHRASE
from luksmaker import Luks2
from machineimages import debian_tree, make_filesystem, packages
from program import PROGRAM

import undercroft
from undercroft.errors import InputError
from undercroft.model.job import DiskInput, KeysInput, LayerInput, Unlocked
from undercroft.model.schema import Json, decode, encode
from undercroft.sandbox import launcher
from undercroft.usecases.keys import KeyRing
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.target import DiskTarget, LiveExport, MachineTarget, from_images

pytestmark = pytest.mark.xdist_group("encrypted")

WRONG = b"battery staple 51c0de"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A qcow2 image whose one partition cryptsetup encrypted, with a snapshot of an older system."""
    folder = tmp_path_factory.mktemp("machine")
    path = folder / "web01.qcow2"
    for number, version in enumerate(("1.0-1", "2.0-1")):
        tree = debian_tree(folder / f"tree{number}", packages(4, version))
        plain = make_filesystem(tree, folder / "fs", size_bytes=8 << 20)
        disk = wrap_gpt(folder / "disk", [encrypted2(plain, folder / "volume")])
        if number:
            run("qemu-img", "convert", "-n", "-O", "qcow2", disk, path)
        else:
            make_qcow2(disk, path)
            run("qemu-img", "snapshot", "-c", "before", path)
    return path


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "web01.key"
    path.write_bytes(PASSPHRASE + b"\n")
    return path


class Outcome:
    """What a command said, and all that it left behind."""

    def __init__(self, done: subprocess.CompletedProcess[bytes], home: Path) -> None:
        self.code = done.returncode
        self.stdout = done.stdout
        self.stderr = done.stderr
        kept = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
        self.everything = b"\n".join((done.stdout, done.stderr, *kept))


def undercroft_command(
    tmp_path: Path, *arguments: str | Path, stdin: bytes = b"", pass_fds: Sequence[int] = ()
) -> Outcome:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    environment: Mapping[str, str] = {
        **os.environ,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "UNDERCROFT_DATABASE": str(home / "advisories.db"),
        "UNDERCROFT_DEBUG": "1",
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        [str(part) for part in (PROGRAM, *arguments)],
        capture_output=True,
        env=environment,
        timeout=100,
        check=False,
        input=stdin,
        pass_fds=pass_fds,
    )
    return Outcome(done, home)


def shows(everything: bytes, *secrets: bytes) -> list[bytes]:
    """Return those secrets that something shows, in any spelling that a program would give them."""
    folded = everything.lower().replace(b" ", b"").replace(b"\n", b"")
    return [secret for secret in secrets if any(spelled in folded for spelled in _spelled(secret))]


def _spelled(secret: bytes) -> list[bytes]:
    spellings = (secret, secret.hex().encode(), base64.b64encode(secret)[:-4], repr(secret)[2:-1].encode())
    return [spelled.lower().replace(b" ", b"") for spelled in spellings]


def test_a_key_file_opens_every_state(tmp_path: Path, machine: Path, key: Path) -> None:
    done = undercroft_command(tmp_path, "scan", machine, "--key", f"disk0p1={key}", "-f", "json")
    states = {state["name"]: state["inventory"] for state in json.loads(done.stdout)["states"]}
    versions = {name: found["packages"][0]["version"] for name, found in states.items()}
    assert versions == {"current": "2.0-1", "before": "1.0-1"}
    assert not any(found["coverage"]["problems"] for found in states.values())


@pytest.mark.parametrize("volume", ["disk0p1", "*", "uuid"])
def test_a_volume_goes_by_its_name_its_uuid_or_any(
    tmp_path: Path, machine: Path, key: Path, volume: str
) -> None:
    if volume == "uuid":
        volume = run("cryptsetup", "luksUUID", machine.parent / "volume").strip().upper()
    done = undercroft_command(tmp_path, "files", "cat", machine, "/etc/hostname", "--key", f"{volume}={key}")
    assert done.stdout == b"web01\n", done.stderr


def test_the_key_comes_from_standard_input_or_a_descriptor(tmp_path: Path, machine: Path) -> None:
    command = ("files", "cat", machine, "/etc/hostname", "--key")
    assert undercroft_command(tmp_path, *command, "*=-", stdin=PASSPHRASE).stdout == b"web01\n"
    reading, writing = os.pipe()
    os.write(writing, PASSPHRASE)
    os.close(writing)
    done = undercroft_command(tmp_path, *command, f"*=/dev/fd/{reading}", pass_fds=[reading])
    os.close(reading)
    assert done.stdout == b"web01\n", done.stderr


def test_without_a_key_the_machine_is_unread_with_the_cure(tmp_path: Path, machine: Path) -> None:
    done = undercroft_command(tmp_path, "packages", machine)
    assert done.code == 4
    assert b"--key disk0p1=FILE" in done.stdout


def test_a_wrong_key_names_the_volume_and_the_keyslots_tried(tmp_path: Path, machine: Path) -> None:
    done = undercroft_command(tmp_path, "packages", machine, "--key", "*=-", stdin=WRONG)
    assert done.code == 4
    said = b" ".join(done.stdout.split())
    assert b"disk0p1: luks2: the key given does not open it (1 keyslot tried)" in said
    assert not shows(done.everything, WRONG)


COMMANDS = {
    "scan -f json": b'"2.0-1"',
    "diff -v": b"2.0-1",
    "scan -v": b"1 kernel on the disk",
    "scan -f yaml": b"version: 2.0-1",
    "scan -f sarif": b'"runs"',
    "packages -f json": b'"2.0-1"',
}
"""With something of what each one says of a machine that was read."""

FIRST = 2


@pytest.mark.parametrize(
    "command",
    [
        *list(COMMANDS)[:FIRST],
        *(pytest.param(each, marks=pytest.mark.soak) for each in list(COMMANDS)[FIRST:]),
    ],
)
def test_no_output_and_no_file_shows_a_key(tmp_path: Path, machine: Path, key: Path, command: str) -> None:
    name, *options = command.split()
    images = [f"{machine}@before", machine] if name == "diff" else [machine]
    done = undercroft_command(tmp_path, name, *images, *options, "--key", f"*={key}")
    assert done.code in (0, 4), done.stderr
    assert COMMANDS[command] in done.stdout
    own = volume_key(machine.parent / "volume")
    assert not shows(done.everything, PASSPHRASE, own, own[:32], own[32:])


def test_what_is_searched_for_would_be_found(tmp_path: Path) -> None:
    """The control: a machine that is named by the passphrase shows it."""
    tree = debian_tree(tmp_path / "tree", packages(1), {"etc/motd": PASSPHRASE})
    image = make_filesystem(tree, tmp_path / "fs", size_bytes=8 << 20)
    done = undercroft_command(tmp_path, "files", "cat", image, "/etc/motd")
    assert shows(done.everything, PASSPHRASE) == [PASSPHRASE]
    assert shows(PASSPHRASE.hex().upper().encode(), PASSPHRASE)
    assert shows(b'{"key": "' + base64.b64encode(PASSPHRASE) + b'"}', PASSPHRASE)


@pytest.mark.parametrize(
    "argument", ["correct horse 7f3a9c", "disk0p1=correct horse 7f3a9c", "=x", "disk0p1="]
)
def test_a_passphrase_in_place_of_a_file_is_not_repeated(
    tmp_path: Path, machine: Path, argument: str
) -> None:
    done = undercroft_command(tmp_path, "packages", machine, "--key", argument)
    assert done.code in (2, 3)
    assert b"VOLUME=FILE" in done.stderr
    assert not shows(done.stderr, PASSPHRASE)


def test_the_api_takes_the_path_of_a_file_or_the_key_itself(machine: Path, key: Path) -> None:
    for given in (str(key), PASSPHRASE):
        found = undercroft.packages(str(machine), keys={"disk0p1": given})
        assert len(found.packages) == 4
    with undercroft.open(str(machine), keys={"*": PASSPHRASE}) as opened:
        assert b"".join(opened.content(opened.state("before"), "/etc/hostname")) == b"web01\n"
    assert undercroft.diff(str(machine), "before", keys={"*": PASSPHRASE}).complete is not None
    assert not undercroft.packages(str(machine), keys={"*": WRONG}).packages


# What travels to the reader, and how much it may use


class Listening:
    """A reader that remembers each job's arguments, and what its descriptors that hold keys hold."""

    def __init__(self) -> None:
        self._reader = launcher.start()
        self.sandboxed = True
        self.jobs: list[tuple[str, str, bytes]] = []

    def _note(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> None:
        held = b""
        if keys := arguments.get("keys"):
            places = {each.descriptor for each in decode(KeysInput, keys).keys}
            held = b"".join(os.pread(descriptors[place], 1 << 16, 0) for place in sorted(places))
        self.jobs.append((job, json.dumps(arguments), held))

    def call(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Json:
        self._note(job, arguments, descriptors)
        return self._reader.call(job, arguments, descriptors)

    def stream(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Iterator[bytes]:
        self._note(job, arguments, descriptors)
        return self._reader.stream(job, arguments, descriptors)

    def close(self) -> None:
        self._reader.close()


def test_only_the_child_that_unlocks_gets_a_passphrase_and_no_message_holds_a_key(machine: Path) -> None:
    own = volume_key(machine.parent / "volume")
    reader = Listening()
    with KeyRing() as ring:
        ring.add("*", PASSPHRASE)
        with OpenMachine(from_images([str(machine)]), reader, keys=ring) as opened:
            for state in opened.states:
                assert opened.inventory(state).packages
                assert opened.inputs(state) == ""  # nothing is kept for whoever has no key
            assert b"".join(opened.content(opened.state("current"), "/etc/hostname")) == b"web01\n"
    reader.close()
    assert [job for job, _, _ in reader.jobs] == [
        *("inspect", "unlock", "inventory", "unlock", "inventory", "content"),
    ]
    for job, message, held in reader.jobs:
        assert not shows(message.encode(), PASSPHRASE, own)
        assert (PASSPHRASE in held) == (job == "unlock")
        assert (own in held) == (job in ("inventory", "content")) or job == "unlock"


@pytest.mark.parametrize(("kind", "lanes"), [("argon2id", 4), ("argon2i", 2)])
def test_an_argon2_with_several_lanes_is_derived_without_threads(
    tmp_path: Path, kind: str, lanes: int
) -> None:
    """As cryptsetup makes them by default; the child is killed where it starts a thread."""
    made = Luks2(kdf={"type": kind, "time": 4, "memory": 64, "cpus": lanes})
    answer, _ = unlocked_and_read(made, tmp_path)
    assert [each.digits for each in answer.opened] == [made.key.hex()]


@pytest.mark.soak
def test_an_argon2_of_one_gibibyte_fits_the_child_that_unlocks_and_no_other(tmp_path: Path) -> None:
    """The limit is wider where the header's own is checked, and only there."""
    made = Luks2(kdf={"type": "argon2id", "time": 1, "memory": 1 << 20, "cpus": 4})
    answer, said = unlocked_and_read(made, tmp_path)
    assert "does not open it" in answer.refused[0].reason  # derived; the image was made with less
    assert "memory" in said


def unlocked_and_read(made: Luks2, folder: Path) -> tuple[Unlocked, str]:
    """Return what the child that unlocks says, and one that reads and was given the passphrase itself."""
    path = folder / "volume"
    path.write_bytes(made.build())
    disk = DiskInput("vda", (LayerInput("volume", 0, path.stat().st_size, None),))
    with KeyRing() as ring, launcher.start() as reader, path.open("rb") as file:
        ring.add("*", MADE_PASSPHRASE)
        arguments: dict[str, Json] = {"disks": [encode(disk)], "keys": encode(KeysInput(ring.inputs(1)))}
        descriptors = [file.fileno(), ring.descriptor]
        answer = decode(Unlocked, reader.call("unlock", arguments, descriptors))
        try:
            return answer, json.dumps(reader.call("inventory", arguments, descriptors))
        except InputError as error:
            return answer, str(error)


def test_a_running_machines_export_is_unlocked_over_a_socket_of_its_own(tmp_path: Path) -> None:
    """The child that unlocks speaks to the export first: the one that reads must find a fresh one."""
    tree = debian_tree(tmp_path / "tree", packages(4))
    plain = make_filesystem(tree, tmp_path / "fs", size_bytes=8 << 20)
    disk = tmp_path / "disk"
    disk.write_bytes(Luks2(plain=plain.read_bytes()).build())
    path = tmp_path / "socket"
    command = ["qemu-nbd", "-r", "-f", "raw", "-x", "vda", "-e", "8", "-t", "-k", path, disk]
    with subprocess.Popen(command) as server:
        live = LiveExport("vda", lambda: connected(path, server), lambda: None)
        target = MachineTarget("web01", (DiskTarget("vda", None, live=live),))
        try:
            with KeyRing() as ring, launcher.start() as reader:
                ring.add("vda", MADE_PASSPHRASE)
                with OpenMachine(target, reader, keys=ring) as opened:
                    assert len(opened.inventory(opened.state("current")).packages) == 4
        finally:
            server.terminate()


def connected(path: Path, server: subprocess.Popen[bytes]) -> socket.socket:
    """Return a connection to a server that may still be starting."""
    while True:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(str(path))
        except OSError:
            client.close()
            assert server.poll() is None, "the server ended"
            time.sleep(0.02)
        else:
            return client


def test_a_folder_of_machines_is_opened_by_the_keys_that_are_meant_for_them(
    machine: Path, key: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copyfile(machine, folder / "web01.qcow2")
    named = f"web01.qcow2:disk0p1={key}"
    done = undercroft_command(
        tmp_path, "scan", folder, "--no-cache", "-f", "json", "--key", named, "--key", f"gone={key}"
    )
    image, _end = map(json.loads, done.stdout.splitlines())
    shown = [state["inventory"]["packages"][0]["version"] for state in image["scan"]["states"]]
    assert shown == ["2.0-1", "1.0-1"]
    assert b"the key for gone was meant for nothing" in done.stderr
    assert b"web01.qcow2:disk0p1 was meant" not in done.stderr
    assert PASSPHRASE not in done.everything
