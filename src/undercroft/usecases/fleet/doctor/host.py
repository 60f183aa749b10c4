"""What `doctor` looks at on the host itself: libvirt, hook, agent, its disk, the kernel, the clock."""

import ctypes
import os
import socket
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path

from undercroft.adapters import hookfiles
from undercroft.errors import InputError, NotFoundError, OperationError
from undercroft.usecases.fleet.doctor.checkup import CheckedHost, Look
from undercroft.usecases.fleet.doctor.health import Check, Health

FREE_BYTES_WANTED = 1 << 30
FREE_BYTES_NEEDED = 64 << 20
WAITING_S = 60.0
"""An event that waits for longer has no agent that takes it."""
_TIMEX_BYTES = 256
_TIME_ERROR = 5
_START = "systemctl start undercroft"
_INSTALL = "undercroft up installs it"
_RELOAD = "systemctl reload libvirtd (or virtqemud)"


def _libvirt(host: CheckedHost) -> Iterable[Check]:
    try:
        version = host.version()
    except OperationError as error:
        yield Check("libvirt", Health.FAIL, str(error), "systemctl start libvirtd (or virtqemud)")
        return
    try:
        daemon = Path(f"/proc/{hookfiles.daemon_pid(host.run)}/comm").read_text().strip()
    except NotFoundError:
        # libvirt answers, from another process namespace or by a socket that starts it.
        yield Check("libvirt", Health.OK, f"libvirt {version}")
        return
    yield Check("libvirt", Health.OK, f"{daemon} {version}")


def _hook(host: CheckedHost) -> Iterable[Check]:
    path = host.hooks / "qemu.d" / hookfiles.HOOK_NAME
    try:
        found = path.stat()
    except FileNotFoundError:
        yield Check("hook", Health.FAIL, f"{path} is not there: no start is asked about", _INSTALL)
        return
    if not found.st_mode & stat.S_IXUSR:
        yield Check("hook", Health.FAIL, f"{path} is not executable: libvirt passes it over", _INSTALL)
    elif found.st_mode & 0o022 or found.st_uid not in {0, os.geteuid()}:
        cure = f"chown root: {path}; chmod 755 {path}"
        yield Check("hook", Health.FAIL, f"{path} can be written by others than root", cure)
    elif path.read_bytes() != hookfiles.shipped_hook():
        yield Check("hook", Health.FAIL, f"{path} is not the one of this version", _INSTALL)
    elif told := _told_by(path):
        yield Check("hook", Health.FAIL, f"{path} does not run: {told}", "apt install python3")
    else:
        yield from _seen(host, path, found)


def _told_by(path: Path) -> str:
    """Return what is wrong with a hook that has to complain of missing arguments, "" when it does."""
    try:
        done = subprocess.run([path], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stderr.decode(errors="replace").strip()
    expected = done.returncode == 0 and said.startswith("undercroft: libvirt calls a hook with 4 arguments")
    return "" if expected else said[-200:] or f"exit code {done.returncode}"


def _seen(host: CheckedHost, path: Path, found: os.stat_result) -> Iterable[Check]:
    """Tell whether libvirt knows of the hook: it looks for the first one of a folder only when it starts."""
    try:
        started_s = Path(f"/proc/{hookfiles.daemon_pid(host.run)}").stat().st_ctime
    except (NotFoundError, OSError):
        yield Check("hook", Health.OK, f"{path}, of this version")
        return
    called = host.places.spool.is_dir() and host.places.spool.stat().st_mtime > found.st_mtime
    if started_s < found.st_mtime and not called:
        what = f"{path} is younger than the libvirt that runs, and has not been called yet"
        yield Check("hook", Health.WARN, what, _RELOAD)
    else:
        yield Check("hook", Health.OK, f"{path}, of this version")


def _settings(host: CheckedHost) -> Iterable[Check]:
    path = host.hooks / hookfiles.SETTINGS_NAME
    try:
        settings = hookfiles.read_settings(host.hooks)
    except (NotFoundError, InputError) as error:
        follows = ": every start is refused" if (host.hooks / "qemu.d" / hookfiles.HOOK_NAME).exists() else ""
        yield Check("hook's settings", Health.FAIL, f"{error}{follows}", _INSTALL)
        return
    own = (str(host.places.state), str(host.places.admission_socket))
    if (settings.state, settings.socket) != own:
        found = f"{path} names {settings.state} and {settings.socket}, here are {own[0]} and {own[1]}"
        yield Check("hook's settings", Health.FAIL, found, _INSTALL)
        return
    listed = f"; {len(settings.break_glass)} on the break-glass list" if settings.break_glass else ""
    found = f"{settings.timeout_s:g} s for an answer, {settings.away} without one{listed}"
    yield Check("hook's settings", Health.OK, found)


def _agent(host: CheckedHost) -> Iterable[Check]:
    address = host.places.admission_socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5.0)
        try:
            probe.connect(str(address))
        except PermissionError:
            yield Check("agent", Health.UNKNOWN, f"{address}: only root may ask", "sudo undercroft doctor")
            return
        except OSError as error:
            found = f"{address}: {error.strerror}: starts go by last decisions and settings"
            yield Check("agent", Health.FAIL, found, _START)
            return
    yield Check("agent", Health.OK, f"answers at {address}")


def _state(host: CheckedHost) -> Iterable[Check]:
    folder = host.places.state
    if not folder.is_dir():
        yield Check("state", Health.FAIL, f"{folder} is not there", _START)
        return
    found = folder.stat()
    if found.st_mode & 0o022:
        yield Check("state", Health.FAIL, f"{folder} can be written by others", f"chmod 700 {folder}")
        return
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if room.f_flag & os.ST_RDONLY or not os.access(folder, os.W_OK):
        yield Check("state", Health.FAIL, f"{folder} cannot be written", f"mount -o remount,rw; {_START}")
        return
    few_inodes = bool(room.f_files) and room.f_favail < 1000
    told = f"{folder}: {free >> 20} MiB free" + (", and hardly a file can be made" if few_inodes else "")
    cure = "make room: without it no event can be kept, and every start is refused"
    if free < FREE_BYTES_NEEDED or few_inodes:
        yield Check("state", Health.FAIL, told, cure)
    else:
        tight = free < FREE_BYTES_WANTED
        yield Check("state", Health.WARN if tight else Health.OK, told, cure if tight else "")


def _spool(host: CheckedHost) -> Iterable[Check]:
    names = hookfiles.spooled(host.places.state)
    bad = len(os.listdir(host.places.spool / hookfiles.BAD_FOLDER))
    if bad:
        found = f"{bad} malformed events were moved aside"
        yield Check("spool", Health.WARN, found, f"look at them, then remove: {host.places.spool}/bad")
    age_s = host.clock().timestamp() - int(names[0][:20]) / 1e9 if names else 0.0
    if age_s > WAITING_S:
        found = f"{len(names)} events wait, the oldest for {age_s:.0f} s"
        yield Check("spool", Health.FAIL, found, "systemctl restart undercroft; journalctl -u undercroft")
    elif not bad:
        yield Check("spool", Health.OK, f"{len(names)} events wait")


def _kernel(_host: CheckedHost) -> Iterable[Check]:
    if Path("/sys/module/bridge").exists() or (Path("/sys/class/net").exists() and _bridges()):
        yield Check("bridge", Health.OK, "the kernel has bridges")
    else:
        found = "no bridge yet: a machine without a tap on one cannot be quarantined"
        yield Check("bridge", Health.WARN, found, "modprobe bridge; virsh net-start default")


def _bridges() -> list[Path]:
    return list(Path("/sys/class/net").glob("*/bridge"))


def _clock(_host: CheckedHost) -> Iterable[Check]:
    # adjtimex(2): asked for nothing, it answers whether anybody keeps the clock.
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    answer = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    if answer < 0:
        yield Check("clock", Health.UNKNOWN, os.strerror(ctypes.get_errno()))
    elif answer == _TIME_ERROR:
        found = "nobody keeps it: ages, graces and expiries may be wrong"
        yield Check("clock", Health.WARN, found, "timedatectl set-ntp true, or install chrony")
    else:
        yield Check("clock", Health.OK, "synchronised")


HOST_LOOKS: tuple[tuple[str, Look, str], ...] = (
    ("libvirt", _libvirt, "systemctl start libvirtd (or virtqemud)"),
    ("hook", _hook, _INSTALL),
    ("hook's settings", _settings, _INSTALL),
    ("agent", _agent, _START),
    ("state", _state, _START),
    ("spool", _spool, _START),
    ("bridge", _kernel, ""),
    ("clock", _clock, ""),
)
