"""A libvirt host as OPERATIONS.md has its administrator make it: Debian, systemd as first process, AppArmor.

    told = booted(folder, script)     # what each `step` of a shell script has said there, by its name

Its root comes from the machine's own mirror, Undercroft from a copy of this checkout by the commands of the
document, and the pieces that those fetch from a folder of wheels. It runs under TCG.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "demo"))

from debian_guest import build_tree  # noqa: E402 - lies in demo/, which is no package
from host_mirror import host_mirror  # noqa: E402

PACKAGES = (
    *(
        "systemd",
        "systemd-sysv",
        "dbus",
        "udev",
        "kmod",
        "apparmor",
        "linux-image-amd64",
        "procps",
        "iproute2",
    ),
    *(
        "libvirt-daemon-system",
        "libvirt-clients",
        "qemu-system-x86",
        "qemu-utils",
        "nftables",
        "ebtables",
        "e2fsprogs",
    ),
)
COMMANDS = ("mmdebstrap", "mke2fs", "qemu-system-x86_64", "unshare")
_WHEELS = "/root/wheels"
_BOOTS_WITHIN_S = 1_800.0
_DISK = "14G"
"""Room for the scratch files of a machine that is read while it runs."""
_PRELUDE = """#!/bin/bash
exec >/dev/ttyS0 2>&1
export NO_COLOR=1 COLUMNS=140 HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
trap 'echo; echo "#### END"; sync; poweroff -f' EXIT
step() { echo; echo "#### $1"; }
"""
_UNIT = """[Unit]
After=multi-user.target libvirtd.service
[Service]
Type=oneshot
ExecStart=/root/check.sh
TimeoutStartSec=infinity
"""
_INSTALL = """set -e
mount -t proc proc {tree}/proc
mount --rbind /dev {tree}/dev
exec chroot {tree} /bin/bash -e /root/install.sh
"""


def missing() -> str:
    """Return why no such host can be made here, "" where it can."""
    absent = [command for command in COMMANDS if shutil.which(command) is None]
    if os.geteuid() != 0 or absent:
        return f"a host needs root and {', '.join(COMMANDS)}"
    release = Path("/etc/os-release").read_text()
    if "bookworm" not in release or sys.version_info[:2] != (3, 11):
        return "wheels that are built here fit Debian 12's Python on a Debian 12 with Python 3.11 only"
    return ""


def documented(title: str) -> str:
    """Return the first block of commands below a title of docs/OPERATIONS.md."""
    text = (ROOT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {title}\n.*?^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def booted(folder: Path, script: str) -> dict[str, str]:
    """Make a host in `folder`, run a script there once it is up, and return what each of its steps said."""
    tree = folder / "root"
    install = documented("Install")
    asked, commands = install.split("\n", 1)
    assert asked.startswith("apt-get install "), asked
    cache = ROOT / ".cache" / "systemdhost"
    cache.mkdir(parents=True, exist_ok=True)
    wanted = asked.removeprefix("apt-get install ").split()
    build_tree(tree, host_mirror(), (*PACKAGES, *wanted), cache, hostname="host1")
    _put_checkout(tree)
    (tree / "root" / "install.sh").write_text(f"cd /root/undercroft\n{commands}")
    environment = {"PATH": os.environ["PATH"], "HOME": "/root", "CFLAGS": "-O0"}
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": _WHEELS, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment |= {"SYSTEMD_OFFLINE": "1"}  # it reads its units when it boots
    inside = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", _INSTALL.format(tree=tree)]
    _run(inside, environment)
    (tree / "root" / "check.sh").write_text(_PRELUDE + script)
    (tree / "root" / "check.sh").chmod(0o755)
    units = tree / "etc" / "systemd" / "system"
    (units / "check.service").write_text(_UNIT)
    (units / "graphical.target.wants").mkdir(exist_ok=True)
    (units / "graphical.target.wants" / "check.service").symlink_to("/etc/systemd/system/check.service")
    # A terminal that somebody may log in at is hung up first, and with it what the script says.
    (units / "serial-getty@ttyS0.service").symlink_to("/dev/null")
    (tree / "etc" / "fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    disk = folder / "disk.raw"
    _run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(disk), _DISK])
    return _told(_boot(tree, disk, folder / "serial"))


def _put_checkout(tree: Path) -> None:
    """Put this checkout there, and all that pip would fetch to install it."""
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, tracked):
        if name.split("/")[0] not in {"tests", "bench", "proof"} and (ROOT / name).is_file():
            target = tree / "root" / "undercroft" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "-w", str(tree) + _WHEELS]
    _run([*wheel, f"{ROOT}[fleet]", "hatchling"], {**os.environ, "CFLAGS": "-O0"})


def _boot(tree: Path, disk: Path, serial: Path) -> str:
    (kernel,) = (tree / "boot").glob("vmlinuz-*")
    (initrd,) = (tree / "boot").glob("initrd.img-*")
    command = [
        *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-smp", "2", "-cpu", "max", "-m", "3072"),
        *("-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{serial}"),
        *("-kernel", str(kernel), "-initrd", str(initrd)),
        *(
            "-append",
            "root=/dev/vda rw console=ttyS0 apparmor=1 security=apparmor quiet systemd.show_status=0",
        ),
        *("-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"),
    ]
    with subprocess.Popen(command) as machine:
        try:
            ends = time.monotonic() + _BOOTS_WITHIN_S
            while machine.poll() is None and time.monotonic() < ends:
                time.sleep(0.5)
        finally:
            machine.kill()
    said = serial.read_text(errors="replace").replace("\r", "")
    assert "#### END" in said, said[-4_000:]
    return said


def _told(said: str) -> dict[str, str]:
    parts = re.split(r"^#### (.*)$", said, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{command[:4]}: {done.stdout[-2_000:]} {done.stderr[-4_000:]}"
