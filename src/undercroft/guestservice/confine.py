"""What the process gives up before it hears of any guest, where root starts it and not systemd.

1. It sees Python, Undercroft, the shared libraries, its own folder and its TPM; no other file, no other
   process, no network.
2. It becomes a user of its own, without groups and without capabilities, and can gain none.
3. It executes no program, makes no namespace and no socket but the host's own kind, and traces nobody
   (`calls`).
4. It has bounds on memory, descriptors and processes, leaves no core, and is traced by nobody of its user.

The units in systemd/ say the same in systemd's words: there it is never root.
"""

import contextlib
import os
import pwd
import resource
import sys
from pathlib import Path

from undercroft.adapters.namespaces import confine
from undercroft.adapters.prctl import be_private, drop_bounding_set, gain_nothing
from undercroft.errors import DeniedError, OperationError
from undercroft.guestservice import calls

USER = "undercroft-guest"
NUMBER = 60_789
"""User and group where none has that name: a number that nobody gives out (systemd.io/UIDS-GIDS)."""

MEMORY_BYTES = 4 << 30
DESCRIPTORS = 8_192
PROCESSES = 16
_LIBRARIES = ("/usr", "/lib", "/lib64", "/lib32", "/libx32", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/urandom")


def own_user() -> tuple[int, int]:
    """Return the user and group that the service becomes."""
    try:
        found = pwd.getpwnam(USER)
    except KeyError:
        return NUMBER, NUMBER
    return found.pw_uid, found.pw_gid


def give_up(folder: Path, tpm: str) -> None:
    """Give up all of the above; as another user than root only the last two.

    Args:
        folder: the service's own; made where it is missing, and given to its user.
        tpm: how the TPM is reached, "" for none.

    Raises DeniedError, OperationError: something of it is refused; nobody is to be served then.
    """
    if os.geteuid() == 0:
        _leave_root(folder.absolute(), tpm)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    _limit(resource.RLIMIT_NOFILE, DESCRIPTORS)
    gain_nothing()
    be_private()
    try:
        calls.refuse()
    except OSError as error:
        raise DeniedError(f"the kernel takes no filter of system calls: {error.strerror}") from error


def _leave_root(folder: Path, tpm: str) -> None:
    user, group = own_user()
    _own(folder, user, group)
    device = tpm.removeprefix("device:")
    if device.startswith("/dev/"):
        _check_device(device)
    try:
        confine(_shown(), [str(folder)], [*_DEVICES, *([device] if device.startswith("/dev/") else [])])
    except DeniedError as error:
        raise DeniedError(
            f"the guest service cannot be confined: {error}; systemctl enable --now undercroft-guest.socket"
        ) from error
    try:
        drop_bounding_set()
        os.setgroups([_group_of(device)] if device.startswith("/dev/") else [])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    except OSError as error:
        raise DeniedError(f"the guest service cannot become user {user}: {error.strerror}") from error
    _limit(resource.RLIMIT_NPROC, PROCESSES)


def _shown() -> list[str]:
    """Return the paths of the interpreter, its packages and its libraries; outer ones before inner ones."""
    own = [sys.base_prefix, sys.prefix, *(path for path in sys.path if path)]
    return [*_LIBRARIES, *sorted(os.path.abspath(path) for path in own)]


def _own(folder: Path, user: int, group: int) -> None:
    """Make the folder, and give it to the user where root made it: what belongs to the user is left alone."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid not in (0, user):
            raise OperationError(f"{folder}: belongs to another user: give it to user {user}")
        if folder.stat().st_uid != user:
            for entry in os.scandir(folder):
                os.chown(entry.path, user, group, follow_symlinks=False)
            os.chown(folder, user, group)
    except OSError as error:
        raise OperationError(f"{folder}: {error.strerror}") from error


def _check_device(device: str) -> None:
    if not os.path.exists(device):
        raise OperationError(f"{device}: there is no such TPM; --tpm none goes without")


def _group_of(device: str) -> int:
    """Return the device's group: it is how the device's users are told (`tss`, of Debian's tpm-udev)."""
    with contextlib.suppress(OSError):
        return os.stat(device).st_gid
    return 0


def _limit(what: int, most: int) -> None:
    """Lower a limit; one that is lower stays."""
    _, hard = resource.getrlimit(what)
    least = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (least, least))
