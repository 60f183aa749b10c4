"""What guestfish and virt-inspector say of an image: another reader, whose kernel maps and mounts it.

Each question starts an appliance of its own, under TCG without KVM: half a minute where nothing else runs.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

MAPPED = "/dev/mapper/opened"
"""What a LUKS volume is called once it is open."""

_ENVIRONMENT = {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}


@dataclass(frozen=True)
class Asked:
    """An image and how it is read.

    Attributes:
        image: its file.
        form: as qemu calls its format.
        device: what holds the root.
        passphrase: of the LUKS volume at `device`, "" for none.
        options: of the mount.
    """

    image: Path
    form: str = "raw"
    device: str = "/dev/sda1"
    passphrase: str = ""
    options: str = "ro"


def missing() -> str:
    """Return why nothing can be asked here, "" where it can."""
    for tool in ("guestfish", "virt-inspector"):
        if shutil.which(tool) is None:
            return f"needs {tool} (libguestfs-tools)"
    return "" if any(Path("/boot").glob("vmlinuz-*")) else "guestfish needs a kernel in /boot"


def digests(asked: Asked, paths: Sequence[str], *, limit_s: int) -> dict[str, str]:
    """Return the SHA-256 of each file by guestfish, "!" where it gave none.

    Raises:
        TimeoutError: it took longer than `limit_s`.
        OSError: it could not mount the image; its last words.
    """
    opened: list[str] = []
    if asked.passphrase:
        opened = [f"cryptsetup-open {asked.device} opened readonly:true", asked.passphrase]
    lines = ["run", *opened, f"mount-options {asked.options} {MAPPED if opened else asked.device} /"]
    for path in paths:
        lines += [f'echo "file {path}"', f'-checksum sha256 "/{path}"']
    command = ["guestfish", "--ro", "--keys-from-stdin", f"--format={asked.form}", "-a", asked.image]
    said = _run(command, "\n".join(lines) + "\n", limit_s)
    answer, path = {}, ""
    for line in said.splitlines():
        if line.startswith("file "):
            path = line.removeprefix("file ")
            answer[path] = "!guestfish has no such file, or cannot read it"
        elif path and line:
            answer[path] = line
    return answer


def packages(asked: Asked, *, limit_s: int) -> set[tuple[str, str]]:
    """Return (name, version) of each package by virt-inspector, empty where it finds no system.

    Raises:
        TimeoutError: it took longer than `limit_s`.
        OSError: it could not read the image; its last words.
    """
    keys = ["--keys-from-stdin"] if asked.passphrase else []
    command = ["virt-inspector", *keys, f"--format={asked.form}", "-a", asked.image]
    said = _run(command, f"{asked.passphrase}\n" if asked.passphrase else "", limit_s)
    found = set()
    for application in ElementTree.fromstring(said).iter("application"):
        version, release = (application.findtext(part, "") for part in ("version", "release"))
        found.add((application.findtext("name", ""), f"{version}-{release}" if release else version))
    return found


def _run(command: Sequence[str | Path], stdin: str, limit_s: int) -> str:
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **_ENVIRONMENT},
        start_new_session=True,
    ) as process:
        try:
            said, errors = process.communicate(stdin, limit_s)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)  # its appliance too
            raise TimeoutError(f"not done after {limit_s} s") from error
    if process.returncode:
        raise OSError((errors.strip().splitlines() or ["it said nothing"])[-1][:200])
    return said
