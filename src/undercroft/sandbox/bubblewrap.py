"""The command line of bubblewrap, and what to say when it does not start.

What the sandbox's filesystem holds, all of it read-only and without /proc: the interpreter's binary and
standard library, the system's folder of shared libraries and the dynamic loader, the few packages that
readers use, and Undercroft itself. The namespaces (user, network, process, IPC, host name, cgroup) are
new and empty, no capability is left, and the environment is cleared.
"""

import os
import sys
from importlib.machinery import PathFinder

from undercroft.errors import DeniedError, OperationError, UndercroftError

PROGRAM = "bwrap"
PACKAGES = ("undercroft", "zstandard", "google_crc32c")
"""Top-level packages that readers import from outside the standard library."""

FOR_KEYS = ("cryptography", "_cffi_backend")
"""Those of readers that open encrypted volumes, bound where they are installed."""

FOR_FILESYSTEMS = ("pytsk3",)
"""That of the reader of NTFS, bound where it is installed."""

LOADERS = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}
"""The dynamic loader that executables name (ELF PT_INTERP), by architecture with a filter."""

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
SWITCHES = (
    ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1",
     "sysctl kernel.apparmor_restrict_unprivileged_userns=0 (or an AppArmor profile for bwrap)"),
    ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=1000"),
)  # fmt: skip
"""Kernel settings that forbid user namespaces: path under /proc/sys, forbidding value, cure."""


def command(control: int, jobs_module: str) -> list[str]:
    """Return the whole command that starts the server.

    Args:
        control: descriptor of the control socket in the new process.
        jobs_module: importable module of jobs.

    Raises:
        DeniedError: the architecture has no filter, or a package that readers need is not installed.
    """
    loader = _loader()
    # The venv's own binary is a link (or a copy that needs the venv): the base installation's is bound.
    interpreter = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    packages = [_package_path(name) for name in dict.fromkeys((*PACKAGES, jobs_module.partition(".")[0]))]
    packages += [_package_path(name) for name in (*FOR_KEYS, *FOR_FILESYSTEMS) if PathFinder.find_spec(name)]
    # Beside a package, a wheel keeps the shared libraries that it brought along (auditwheel).
    brought = [path for path in (f"{package}.libs" for package in packages) if os.path.isdir(path)]
    shown = [interpreter, os.path.dirname(os.__file__), *_shared_libraries(), *packages, *brought]
    binds = [word for path in dict.fromkeys(shown) for word in ("--ro-bind", path, path)]
    folders = ":".join(dict.fromkeys(os.path.dirname(path) for path in packages))
    return [
        PROGRAM, *ISOLATION, *binds, "--ro-bind", os.path.realpath(loader), loader,
        "--remount-ro", "/", "--chdir", "/",
        "--", interpreter, *INTERPRETER_FLAGS, folders, str(control), jobs_module,
    ]  # fmt: skip


def not_installed(error: OSError) -> DeniedError:
    """Return the error for a host on which bubblewrap cannot be executed."""
    if isinstance(error, FileNotFoundError):
        return DeniedError(f"no sandbox: {PROGRAM} is not in PATH; apt install bubblewrap; {WITHOUT}")
    return DeniedError(f"no sandbox: {PROGRAM} cannot be run: {error.strerror}; {WITHOUT}")


def not_started(stderr: str) -> UndercroftError:
    """Return the error for a server that never came up, from what was written to standard error."""
    said = stderr.splitlines()[-1] if stderr else "it said nothing"
    if not said.startswith(f"{PROGRAM}: "):
        return OperationError(f"the sandbox's reader did not start: {said}")
    cures = [cure for path, forbidding, cure in SWITCHES if _setting(path) == forbidding]
    cure = " and ".join(cures) or "allow unprivileged user namespaces on this host"
    return DeniedError(f"no sandbox: {said}; {cure}; {WITHOUT}")


def _setting(path: str) -> str:
    try:
        with open(f"/proc/sys/{path}", encoding="ascii") as setting:
            return setting.read().strip()
    except OSError:
        return ""


def _loader() -> str:
    machine = os.uname().machine
    if machine not in LOADERS:
        raise DeniedError(f"no sandbox for the architecture {machine}, only {', '.join(LOADERS)}; {WITHOUT}")
    return LOADERS[machine]


def _package_path(name: str) -> str:
    """Return the folder (or file) of an importable top-level module, without importing it."""
    spec = PathFinder.find_spec(name)
    if spec is None or spec.origin is None:
        raise DeniedError(f"no sandbox: the Python package {name} is not installed as files; {WITHOUT}")
    return os.path.dirname(spec.origin) if spec.submodule_search_locations else spec.origin


def _shared_libraries() -> list[str]:
    """Return the folder of the C library, and this interpreter's own library where it has one."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        mapped = {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if "/" in line}
    folders = [os.path.dirname(path) for path in mapped if os.path.basename(path).startswith("libc.so.")]
    own = [path for path in mapped if os.path.basename(path).startswith("libpython")]
    return [*folders, *own]
