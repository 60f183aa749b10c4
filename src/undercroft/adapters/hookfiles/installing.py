"""The hook in libvirt's folder, its settings, and the daemon that has to see it."""

import os
import secrets
import signal
import stat
from contextlib import suppress
from importlib import resources
from pathlib import Path

from undercroft.adapters.hookfiles.events import BAD_FOLDER
from undercroft.adapters.hookfiles.files import MAX_NOTE_BYTES, json_bytes, loaded, told, write_file
from undercroft.adapters.hookfiles.values import HookSettings, Installed
from undercroft.errors import NotFoundError
from undercroft.model.schema import decode, encode

HOOKS_FOLDER = Path("/etc/libvirt/hooks")
HOOK_NAME = "undercroft"
SETTINGS_NAME = "undercroft.json"
KEY_BYTES = 32

_PID_FILES = ("libvirtd.pid", "virtqemud.pid")


def prepare_folders(state: Path) -> None:
    """Make the folders that the hook writes to, for root only, and the hook's key. Raises OperationError."""
    with told(state):
        for folder in (
            state,
            state / "spool",
            state / "spool" / BAD_FOLDER,
            state / "decisions",
            state / "run",
        ):
            folder.mkdir(parents=True, exist_ok=True)
            if folder != state:
                folder.chmod(0o700)
        key = state / "hook.key"
        if not key.exists():
            write_file(key, secrets.token_bytes(KEY_BYTES))


def shipped_hook() -> bytes:
    """Return the hook as this version ships it."""
    return (resources.files("undercroft.hook") / "qemu_hook.py").read_bytes()


def install_hook(hooks: Path, settings: HookSettings) -> Installed:
    """Write the settings and the hook below libvirt's folder of hooks. Raises OperationError, StateError."""
    folder = hooks / "qemu.d"
    path = folder / HOOK_NAME
    with told(path):
        folder.mkdir(parents=True, exist_ok=True)
        is_first = not any(hooks.glob("qemu")) and not any(folder.iterdir())
        write_file(hooks / SETTINGS_NAME, json_bytes(encode(settings)), mode=0o644)
        hook = shipped_hook()
        changed = not _is_whole(path, hook)
        if changed:
            write_file(path, hook, mode=0o755)
    return Installed(changed, is_first)


def _is_whole(path: Path, hook: bytes) -> bool:
    """Tell whether the hook is there, unchanged, and nobody's but root's to write."""
    try:
        found = path.lstat()
        proper = stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o755
        return proper and found.st_uid == os.geteuid() and path.read_bytes() == hook
    except FileNotFoundError:
        return False


def remove_hook(hooks: Path) -> None:
    """Take the hook away, then its settings: machines start without Undercroft. Raises OperationError."""
    with told(hooks):
        (hooks / "qemu.d" / HOOK_NAME).unlink(missing_ok=True)
        (hooks / SETTINGS_NAME).unlink(missing_ok=True)


def read_settings(hooks: Path) -> HookSettings:
    """Return the settings that the hook has. Raises NotFoundError, InputError, OperationError."""
    path = hooks / SETTINGS_NAME
    return decode(HookSettings, loaded(path, MAX_NOTE_BYTES), str(path))


def daemon_pid(run: Path = Path("/run")) -> int:
    """Return the process of libvirtd, or of virtqemud. Raises NotFoundError where neither runs."""
    for name in _PID_FILES:
        with suppress(OSError, ValueError):
            pid = int((run / name).read_text())
            # The file may be of an earlier boot: the process has to be the daemon.
            if Path(f"/proc/{pid}/comm").read_text().strip() == name.removesuffix(".pid"):
                return pid
    raise NotFoundError(f"{run}: neither libvirtd nor virtqemud runs: systemctl start libvirtd")


def reload_daemon(run: Path = Path("/run")) -> None:
    """Let libvirt read its configuration again, which makes it see a first hook. Raises NotFoundError."""
    os.kill(daemon_pid(run), signal.SIGHUP)
