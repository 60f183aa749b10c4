"""The command line of bubblewrap, and what to say when it does not start.

What the sandbox's filesystem holds, all of it read-only and without /proc: the interpreter's binary and
standard library, the system's folder of shared libraries and the dynamic loader, the few packages that
readers use, and Undercroft itself. The namespaces (user, network, process, IPC, host name, cgroup) are
new and empty, no capability is left, and the environment is cleared.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from undercroft.errors import DeniedError, OperationError, UndercroftError
from undercroft.sandbox.syscalls import Architecture

PROGRAM = "bwrap"
PACKAGES = ("undercroft", "zstandard", "crc32c")
"""Top-level packages that readers import from outside the standard library."""

ISOLATION = (
    "--unshare-user", "--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
    "--unshare-cgroup-try", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL",
    "--clearenv", "--new-session", "--die-with-parent", "--as-pid-1",
)  # fmt: skip

BOOTSTRAP = (
    "import sys; folders, descriptor, jobs = sys.argv[1:]; sys.path[:0] = folders.split(':'); "
    "from undercroft.sandbox.server import main; main(int(descriptor), jobs)"
)
INTERPRETER_FLAGS = ("-I", "-S", "-B", "-X", "utf8", "-c", BOOTSTRAP)

WITHOUT = "--no-sandbox reads without one, for images that you trust"
_SWITCHES = (
    ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1",
     "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for bwrap"),
    ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=1000"),
)  # fmt: skip
"""Kernel settings that forbid user namespaces: path under /proc/sys, forbidding value, cure."""


def command(architecture: Architecture, control: int, jobs_module: str) -> list[str]:
    """Return the whole command that starts the server with the descriptor `control`.

    Raises:
        DeniedError: a package that readers need is not installed as files.
    """
    # The venv's own binary is a link (or a copy that needs the venv): the base installation's is bound.
    interpreter = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    packages = [*map(_package_path, PACKAGES), *_folder_of_jobs(jobs_module)]
    shown = [interpreter, os.path.dirname(os.__file__), *_shared_libraries(), *packages]
    binds = [word for path in dict.fromkeys(shown) for word in ("--ro-bind", path, path)]
    loader = ["--ro-bind", os.path.realpath(architecture.loader), architecture.loader]
    folders = ":".join(dict.fromkeys(os.path.dirname(path) for path in packages))
    return [
        PROGRAM, *ISOLATION, *binds, *loader, "--remount-ro", "/", "--chdir", "/",
        "--", interpreter, *INTERPRETER_FLAGS, folders, str(control), jobs_module,
    ]  # fmt: skip


def not_installed() -> DeniedError:
    """Return the error for a host without bubblewrap."""
    return DeniedError(f"no sandbox: {PROGRAM} is not in PATH; apt install bubblewrap; {WITHOUT}")


def not_started(stderr: str) -> UndercroftError:
    """Return the error for a server that never came up, from what it wrote to standard error."""
    said = stderr.strip().splitlines()[-1] if stderr.strip() else "it said nothing"
    if not said.startswith(f"{PROGRAM}: "):
        return OperationError(f"the sandbox's reader did not start: {said}")
    cures = [cure for path, forbidding, cure in _SWITCHES if _setting(path) == forbidding]
    cure = " and ".join(cures) or "allow unprivileged user namespaces on this host"
    return DeniedError(f"no sandbox: {said}; {cure}; {WITHOUT}")


def _setting(path: str) -> str:
    try:
        return (Path("/proc/sys") / path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _package_path(name: str) -> str:
    """Return the folder (or file) of an importable top-level module, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise DeniedError(f"no sandbox: the Python package {name} is not installed; {WITHOUT}")
    return os.path.dirname(spec.origin) if spec.submodule_search_locations else spec.origin


def _folder_of_jobs(jobs_module: str) -> Sequence[str]:
    top_level = jobs_module.partition(".")[0]
    return () if top_level in PACKAGES else (_package_path(top_level),)


def _shared_libraries() -> Iterator[str]:
    """Yield the folder of the C library, and each library that this interpreter has from elsewhere."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        mapped = {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if "/" in line}
    libraries = sorted(path for path in mapped if ".so" in os.path.basename(path))
    system = next((os.path.dirname(path) for path in libraries if "/libc.so." in path), "")
    if system:
        yield system
    yield from (path for path in libraries if "/libpython" in path and os.path.dirname(path) != system)
