"""Tiny real guests: Debian's cloud kernel and an initrd of busybox, run by QEMU without acceleration.

The kernel comes from the Debian package through apt and is unpacked with dpkg-deb; nothing is mounted. It is
made once and kept in `.cache/guests` of the repository. A guest runs one shell script, its workload, which
speaks over the serial console; it is up in about two seconds.
"""

import fcntl
import lzma
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / ".cache" / "guests"
APT_PACKAGES = ("qemu-system-x86", "qemu-utils", "busybox-static", "kmod", "cpio", "e2fsprogs")
"""What a machine needs to make and run the guests."""
KERNEL_PACKAGE = "linux-image-cloud-amd64"
MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "ext4")
_EDITION = 2
"""To be counted up with any change of what is in the initrd: the cache keeps one by this number."""
MEMORY_MIB = 96

_COMMANDS = (
    "qemu-system-x86_64",
    "qemu-img",
    "busybox",
    "depmod",
    "modprobe",
    "cpio",
    "mke2fs",
    "dpkg-deb",
    "apt-get",
)
_INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
for module in /modules/*.ko; do insmod $module; done
echo GUEST-UP
. /workload
echo GUEST-DONE
poweroff -f
"""


@dataclass(frozen=True, slots=True)
class BootFiles:
    """What QEMU boots: a kernel, and an initrd that lacks only its workload."""

    kernel: Path
    initrd: Path


def missing() -> str:
    """Return why guests cannot be had here, "" when they can."""
    absent = [command for command in _COMMANDS if shutil.which(command) is None]
    return f"guests need {', '.join(absent)}: apt-get install {' '.join(APT_PACKAGES)}" if absent else ""


def boot_files(kind: str = "", modules: Sequence[str] = MODULES, package: str = KERNEL_PACKAGE) -> BootFiles:
    """Return the kernel and the initrd; the first call on a machine makes them in about 5 s.

    Args:
        kind: "" for the usual guest, else the name of one with other modules, such as "-filter".
        modules: to be loaded, besides what they depend on.
        package: that depends on the kernel.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    files = BootFiles(CACHE / f"vmlinuz{kind}", CACHE / f"initrd{kind}-{_EDITION}")
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (files.kernel.exists() and files.initrd.exists()):
            _make(files, modules, package)
    return files


def with_workload(boot: BootFiles, script: str, folder: Path) -> BootFiles:
    """Return boot files whose guest runs `script`: the kernel unpacks the second archive over the first."""
    (folder / "workload").write_text(script)
    initrd = folder / "initrd"
    initrd.write_bytes(boot.initrd.read_bytes() + archive(folder, ["workload"]))
    # The cache may lie where libvirt's QEMU user cannot look, such as below /root.
    kernel = shutil.copy(boot.kernel, folder / "vmlinuz")
    return BootFiles(Path(kernel), initrd)


def ext4_image(path: Path, size_mib: int, *options: str) -> Path:
    """Make a qcow2 image that holds an empty ext4 filesystem and nothing else."""
    raw = path.with_suffix(".raw")
    raw.write_bytes(b"")
    _run(["mke2fs", "-q", "-F", "-t", "ext4", *options, str(raw), f"{size_mib}M"])
    _run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(path)])
    raw.unlink()
    return path


@dataclass(slots=True)
class Guest:
    """A guest that QEMU runs, outside libvirt."""

    process: subprocess.Popen[bytes]
    serial: Path

    def kill(self) -> None:
        """End QEMU with SIGKILL, as a crash of the host would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running(boot: BootFiles, disk: Path, serial: Path) -> Iterator[Guest]:
    """Run a guest with one qcow2 disk, /dev/vda; it is killed at the latest when the block ends."""
    command = [
        *("qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-m", str(MEMORY_MIB)),
        *("-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{serial}"),
        *("-kernel", str(boot.kernel), "-initrd", str(boot.initrd), "-append", "console=ttyS0 quiet"),
        *("-drive", f"file={disk},format=qcow2,if=virtio,cache=writeback"),
    ]
    guest = Guest(subprocess.Popen(command), serial)
    try:
        yield guest
    finally:
        guest.kill()


def lines(serial: Path) -> list[str]:
    """Return the whole lines that the guest has written to its serial console."""
    if not serial.exists():
        return []
    text = serial.read_bytes().decode(errors="replace")
    return [line.rstrip("\r") for line in text.split("\n")[:-1]]


def wait_for(serial: Path, line: str, timeout_s: float = 60.0) -> None:
    """Wait until the guest has written this line."""
    deadline = time.monotonic() + timeout_s
    while line not in lines(serial):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the guest did not write {line!r} in {timeout_s} s: {lines(serial)[-20:]}")
        time.sleep(0.02)


def _make(files: BootFiles, modules: Sequence[str], kernel_package: str) -> None:
    work = CACHE / "work"
    shutil.rmtree(work, ignore_errors=True)
    (work / "root" / "bin").mkdir(parents=True)
    (work / "root" / "modules").mkdir()
    package = _unpack_kernel(work, kernel_package)
    version = next((package / "lib" / "modules").iterdir()).name
    _run(["depmod", "-b", str(package), version])
    for number, module in enumerate(_modules(package, version, modules)):
        plain = lzma.decompress(module.read_bytes()) if module.suffix == ".xz" else module.read_bytes()
        (work / "root" / "modules" / f"{number:02d}-{module.name.removesuffix('.xz')}").write_bytes(plain)
    shutil.copy(str(shutil.which("busybox")), work / "root" / "bin" / "busybox")
    (work / "root" / "init").write_text(_INIT)
    (work / "root" / "init").chmod(0o755)
    for mount_point in ("proc", "sys", "dev", "mnt", "tmp"):
        (work / "root" / mount_point).mkdir()
    names = sorted(str(path.relative_to(work / "root")) for path in (work / "root").rglob("*"))
    files.initrd.write_bytes(archive(work / "root", names))
    shutil.copy(package / "boot" / f"vmlinuz-{version}", files.kernel)
    shutil.rmtree(work)


def _unpack_kernel(work: Path, kernel_package: str) -> Path:
    """Download the kernel's package and unpack it; the test is skipped where apt has no packages."""
    try:
        depends = _run(["apt-cache", "depends", kernel_package])
        name = next(line.split()[1] for line in depends.splitlines() if "Depends: linux-image-" in line)
        _run(["apt-get", "download", name], work)
    except (RuntimeError, StopIteration) as error:
        pytest.skip(f"guests need a kernel from apt (apt-get update?): {error}")
    package = work / "package"
    _run(["dpkg-deb", "-x", str(next(work.glob("*.deb"))), str(package)])
    if not (package / "lib").exists():  # Debian 13 has its modules below /usr, and kmod looks for either
        (package / "lib").symlink_to("usr/lib")
    return package


def _modules(package: Path, version: str, modules: Sequence[str]) -> list[Path]:
    """Return the modules with what they depend on, in the order of loading."""
    found: dict[Path, None] = {}
    for module in modules:
        output = _run(["modprobe", "-d", str(package), "-S", version, "--show-depends", module])
        words = [line.split() for line in output.splitlines()]
        found.update((Path(word[1]), None) for word in words if word[0] == "insmod")
    return list(found)


def archive(folder: Path, names: list[str]) -> bytes:
    command = ["cpio", "--create", "--format=newc", "--owner=0:0", "--quiet"]
    archive = subprocess.run(
        command, cwd=folder, input="\n".join(names).encode(), capture_output=True, check=True
    )
    return archive.stdout


def _run(command: list[str], folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout
