"""A libvirt host of the demo's own, beside the one that may run here, which is not touched.

libvirtd runs in mount, process, network and host name namespaces, with private folders over libvirt's paths.
Inside, `virsh` and `undercroft` find it where they look for it on any host. All that runs in it ends with it.
"""

import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from telling import Shell

from undercroft.errors import NotFoundError, OperationError

NAME = "kvm01"
IMAGES = Path("/var/lib/libvirt/images")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOOLS = {
    "libvirtd": "libvirt-daemon",
    "virsh": "libvirt-clients",
    "qemu-system-x86_64": "qemu-system-x86",
    "mount": "mount",
    "hostname": "hostname",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
"""Programs that are used, and the Debian packages that have them."""

_WAIT_S = 60.0
_PRIVATE = {
    "run": "/run",
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
_QEMU_USER = {
    Path("/etc/passwd"): "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n",
    Path("/etc/group"): "libvirt-qemu:x:64055:\n",
}
_LIBVIRTD_CONF = 'auth_unix_rw = "none"\nauth_unix_ro = "none"\n'
# As root: the folder may lie where QEMU's own user may not go.
_QEMU_CONF = """user = "root"
group = "root"
cgroup_controllers = []
namespaces = []
security_driver = "none"
stdio_handler = "file"
remember_owner = 0
"""
# The first process of the namespace: QEMUs whose parent has gone become its children.
_REAPER = """
import os
if os.fork() == 0:
    os.execvp("libvirtd", ["libvirtd"])
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""


@dataclass(frozen=True, slots=True)
class OwnHost:
    """A host that runs.

    Attributes:
        shell: runs commands on it, in its folder of images.
        folder: its private folders, as seen from outside.
    """

    shell: Shell
    folder: Path

    def start_agent(self, *options: str) -> None:
        """Show and run `undercroft up`, and wait until it answers hooks. Raises OperationError."""
        log = self.folder / "agent.log"
        agent = self.shell.begin("undercroft", "up", *options, log=log)
        address = self.folder / "run" / "undercroft" / "admission.sock"
        _wait_until(address, agent, log)

    def wait_for(self, text: str, *command: str) -> None:
        """Wait until a command says `text`. Raises OperationError where it never does."""
        deadline = time.monotonic() + _WAIT_S
        while text not in (said := self.shell.ask(*command)[1]):
            if time.monotonic() > deadline:
                log = (self.folder / "agent.log").read_text(errors="replace")[-2000:]
                raise OperationError(
                    f"{' '.join(command)} did not say {text!r} in {_WAIT_S:.0f} s:\n{said}\n{log}"
                )
            time.sleep(0.1)


def require_host_tools() -> None:
    """Raise NotFoundError naming the packages to install."""
    missing = sorted(
        {package for tool, package in TOOLS.items() if shutil.which(tool, path=SEARCH_PATH) is None}
    )
    if missing:
        raise NotFoundError(f"a libvirt host needs more packages: apt-get install {' '.join(missing)}")


@contextmanager
def running(folder: Path, images: Path, database: Path) -> Iterator[OwnHost]:
    """Run a host while the block runs.

    Args:
        folder: for its private files; made anew.
        images: the folder that is its /var/lib/libvirt/images.
        database: of advisories.

    Raises:
        OperationError: libvirtd does not start; the message has its last lines.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name in _PRIVATE:
        (folder / name).mkdir(mode=0o755, parents=True)
    (folder / "lib" / "images").mkdir()
    (folder / "etc" / "libvirtd.conf").write_text(_LIBVIRTD_CONF)
    (folder / "etc" / "qemu.conf").write_text(_QEMU_CONF)
    log = folder / "libvirtd.log"
    namespaces = ("--mount", "--pid", "--net", "--uts", "--fork", "--kill-child", "--mount-proc")
    shell = Shell(images)
    ended: list[int] = []
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["/usr/bin/unshare", *namespaces, "sh", "-c", _script(folder, images)],
            env={"PATH": SEARCH_PATH},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until(folder / "run" / "libvirt" / "libvirt-sock", process, log)
        (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ended.append(os.pidfd_open(int(first)))
        enter = ("nsenter", "--target", first, "--mount", "--pid", "--net", "--uts")
        variables = {"UNDERCROFT_DATABASE": str(database), "UNDERCROFT_STATE": str(folder / "undercroft")}
        shell = Shell(images, (*enter, "env", f"--chdir={IMAGES}"), variables)
        yield OwnHost(shell, folder)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        for process_descriptor in ended:
            select.select([process_descriptor], [], [], _WAIT_S)  # the kernel kills it soon after its parent
            os.close(process_descriptor)


def _script(folder: Path, images: Path) -> str:
    """Return what the first process does before it runs libvirtd."""
    targets = {folder / name: Path(path) for name, path in _PRIVATE.items()} | {images: IMAGES}
    for source, line in _QEMU_USER.items():
        # libvirtd wants this user, whoever its QEMUs run as; only the package of its service makes one.
        (folder / source.name).write_text(source.read_text() + line)
        targets[folder / source.name] = source
    readonly = []
    if Path("/dev/kvm").exists():
        # Where it may be written to but is of no use, libvirt asks QEMU anew what it can, for seconds, each
        # time that something is defined.
        (folder / "no-kvm").touch()
        targets[folder / "no-kvm"] = Path("/dev/kvm")
        readonly = ["mount -o remount,bind,ro /dev/kvm"]
    mounts = [f"mount --bind {shlex.quote(str(source))} {target}" for source, target in targets.items()]
    first = shlex.join([sys.executable, "-c", _REAPER])
    return " && ".join(
        [f"mkdir -p {' '.join(_PRIVATE.values())}", *mounts, *readonly, f"hostname {NAME}", f"exec {first}"]
    )


def _wait_until(address: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a program has made its socket. Raises OperationError with what it said."""
    deadline = time.monotonic() + _WAIT_S
    while not address.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace")[-2000:]
            raise OperationError(f"{address.name} did not come; the last words were:\n{said}")
        time.sleep(0.05)
