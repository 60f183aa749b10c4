"""A libvirtd of the test's own: private state, private process, network and mount namespaces, no systemd.

All that it starts lives in a process namespace whose first process is the little reaper below; when that ends
the kernel ends the rest. Its folders are private mounts over libvirt's own paths and can be seen from outside
under `root`. Needs root.

With `UNDERCROFT_TEST_LIBVIRT=modular` it is the daemons of `MODULAR` in libvirtd's place.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import guests

APT_PACKAGES = ("libvirt-daemon-system", "libvirt-daemon-driver-qemu", "libvirt-clients", "util-linux")
START_TIMEOUT_S = 20.0
MODULAR = ("virtqemud", "virtnetworkd", "virtstoraged", "virtproxyd")
"""The first one runs the machines; the last one listens where libvirtd does."""
DAEMONS = MODULAR if os.environ.get("UNDERCROFT_TEST_LIBVIRT") == "modular" else ("libvirtd",)

_PRIVATE = {
    "run": "/run",
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
_DAEMON_CONF = """host_uuid = "{host_uuid}"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "2:file:/var/log/libvirt/{daemon}.log"
"""
_QEMU_CONF = """cgroup_controllers = []
namespaces = []
security_driver = "none"
stdio_handler = "file"
remember_owner = 0
"""
_REAPER = """
import os, sys, time
def start(daemon):
    child = os.fork()
    if child == 0:
        os.execvp(daemon, [daemon])
    return child
daemons = {start(daemon): daemon for daemon in sys.argv[1:]}
while True:
    try:
        ended, _ = os.wait()
    except ChildProcessError:
        break
    if ended in daemons and os.path.exists("/run/down"):
        os.mkdir("/run/is-down")
        while os.path.exists("/run/down"):
            time.sleep(0.02)
        os.rmdir("/run/is-down")
        daemon = daemons.pop(ended)
        daemons[start(daemon)] = daemon
"""


@dataclass(frozen=True, slots=True)
class Libvirtd:
    """A running libvirtd.

    Attributes:
        root: its private folders, as seen from outside.
        uri: the connection URI.
        images: a folder for disks that its QEMUs may use, the same path inside and outside.
        inside: put before a command, it runs where libvirt's own paths and `qemu:///system` are this one's.
    """

    root: Path
    uri: str
    images: Path
    inside: tuple[str, ...]

    @property
    def inside_network(self) -> tuple[str, ...]:
        """The same as `inside`, in libvirt's network namespace, where its bridges and taps are."""
        return (*self.inside, "--net")

    @property
    def pid(self) -> int:
        """The number of the process that runs the machines, as seen from outside."""
        children = Path(f"/proc/{self.inside[2]}/task/{self.inside[2]}/children").read_text().split()
        (daemon,) = [pid for pid in children if Path(f"/proc/{pid}/comm").read_text() == f"{DAEMONS[0]}\n"]
        return int(daemon)

    @contextmanager
    def down(self, number: int = signal.SIGKILL) -> Iterator[None]:
        """End libvirtd by a signal; its QEMUs go on. It runs again when the block ends."""
        mark = self.root / "run" / "down"
        mark.touch()
        os.kill(self.pid, number)
        while not (self.root / "run" / "is-down").exists():  # the reaper has seen it, and the mark
            time.sleep(0.02)
        try:
            yield
        finally:
            mark.unlink()
            while not all(map(_listens, _sockets(self.root))):
                time.sleep(0.02)

    @property
    def state_directory(self) -> Path:
        """The folder that libvirtd calls /var/lib/libvirt/qemu."""
        return self.root / "lib" / "qemu"


def missing() -> str:
    """Return why a private libvirtd cannot be had here, "" when it can."""
    if os.geteuid() != 0:
        return "a private libvirtd needs root"
    absent = [command for command in (*DAEMONS, "virsh", "unshare") if shutil.which(command) is None]
    if absent:
        return f"a private libvirtd needs {', '.join(absent)}: apt-get install {' '.join(APT_PACKAGES)}"
    probe = subprocess.run(["unshare", "--mount", "--pid", "--net", "--fork", "true"], check=False)
    return "namespaces are forbidden here" if probe.returncode else ""


@contextmanager
def running(
    prepare: Callable[[Path], object] = Path.exists, *, without: Sequence[str] = (), hostname: str = ""
) -> Iterator[Libvirtd]:
    """Run a libvirtd; it and all its QEMUs are gone when the block ends.

    `prepare` gets the root of its private folders before it starts: hooks that lie in etc/hooks are seen.
    `without` names drivers ("storage", "network") that it lacks, as where a modular daemon is not installed.
    `hostname` is what the host calls itself, "" for the name of this one: machines migrate between two names.
    """
    root = Path(tempfile.mkdtemp(prefix="libvirtd-"))  # short: the sockets' paths have 107 bytes
    root.chmod(0o755)
    images = root / "images"
    for name in ("images", *_PRIVATE):
        (root / name).mkdir(mode=0o755)
    host = uuid.uuid4()
    daemons = [daemon for daemon in DAEMONS if daemon not in {f"virt{driver}d" for driver in without}]
    for daemon in daemons:
        (root / "etc" / f"{daemon}.conf").write_text(_DAEMON_CONF.format(host_uuid=host, daemon=daemon))
    (root / "etc" / "qemu.conf").write_text(_QEMU_CONF)
    prepare(root)
    mounts = [f"mount --bind {root / name} {path}" for name, path in _PRIVATE.items()]
    if without:
        (drivers,) = Path("/usr/lib").glob("*/libvirt/connection-driver")
        unwanted = [f"libvirt_driver_{driver}.so" for driver in without]
        shutil.copytree(drivers, root / "drivers", ignore=shutil.ignore_patterns(*unwanted))
        mounts.append(f"mount --bind {root}/drivers {drivers}")
    if Path("/dev/kvm").exists():
        # Where it is there but of no use, libvirt takes its knowledge of QEMU for outdated at every call.
        (root / "no-kvm").touch()
        mounts += [f"mount --bind {root}/no-kvm /dev/kvm", "mount -o remount,bind,ro /dev/kvm"]
    naming = [f"echo {hostname} >/proc/sys/kernel/hostname"] if hostname else []
    script = " && ".join(
        [
            *naming,
            "mkdir -p " + " ".join(_PRIVATE.values()),
            *mounts,
            f"exec {sys.executable} -c '{_REAPER}' {' '.join(daemons)}",
        ]
    )
    command = ["unshare", "--mount", "--pid", "--net", "--uts", "--fork", "--kill-child", "--mount-proc"]
    log = (root / "out").open("wb")
    process = subprocess.Popen(
        [*command, "sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        sockets = _sockets(root, daemons)
        for path in sockets:
            _wait_for(path, process, root)
        (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        inside = ("nsenter", "--target", first, "--mount", "--pid", "--uts")
        yield Libvirtd(root, f"qemu+unix:///system?socket={sockets[0]}", images, inside)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        log.close()
        shutil.rmtree(root, ignore_errors=True)


def domain_xml(
    name: str,
    boot: guests.BootFiles,
    serial: Path,
    disks: Sequence[str],
    *,
    memory_mib: int = guests.MEMORY_MIB,
    extra: str = "",
) -> str:
    """Return a small domain's XML; `disks` are whole <disk> elements, `extra` any other devices."""
    return f"""<domain type='qemu'><name>{name}</name><memory unit='MiB'>{memory_mib}</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><kernel>{boot.kernel}</kernel><initrd>{boot.initrd}</initrd>
<cmdline>console=ttyS0 quiet</cmdline></os><features><acpi/></features>
<on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{"".join(disks)}{extra}
<serial type='file'><source path='{serial}'/></serial><memballoon model='none'/></devices></domain>"""


def disk_xml(path: Path, target: str, image_format: str = "qcow2", extra: str = "") -> str:
    """Return a <disk> element for an image file."""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='{image_format}'/><source file='{path}'/>"
        f"<target dev='{target}' bus='virtio'/>{extra}</disk>"
    )


def _wait_for(path: Path, process: subprocess.Popen[bytes], root: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _listens(path):
        if process.poll() is not None or time.monotonic() > deadline:
            logs = [(root / "out"), *sorted((root / "log").glob("*.log"))]
            told = "".join(log.read_text() for log in logs)
            raise RuntimeError(f"{path.name}: nobody listens: {told[-2000:]}")
        time.sleep(0.02)


def _sockets(root: Path, daemons: Sequence[str] = DAEMONS) -> list[Path]:
    """Return where these daemons listen, libvirtd's own socket last."""
    folder = root / "run" / "libvirt"
    return [
        *(folder / f"{daemon}-sock" for daemon in daemons if daemon in MODULAR[:-1]),
        folder / "libvirt-sock",
    ]


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
