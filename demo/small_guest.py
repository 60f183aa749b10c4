"""A small real guest that boots in seconds: Debian's cloud kernel, busybox, Python, and Undercroft's helper.

All of it lies in an initrd: nothing is mounted, and its disk is for snapshots alone. The kernel's package
comes from the mirror that apt uses here and is kept; Python is this machine's own.
"""

import lzma
import re
import shutil
import subprocess
from pathlib import Path

from undercroft.errors import NotFoundError, OperationError

TOOLS = {
    "busybox": "busybox-static",
    "cpio": "cpio",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "/usr/bin/python3": "python3",
}
"""Programs that are used, and the Debian packages that have them."""
HELPER = Path(__file__).resolve().parents[1] / "guest" / "undercroft_guest.py"

_KERNEL_PACKAGE = "linux-image-cloud-amd64"
_MODULES = ("virtio_pci", "virtio_console", "virtio-rng")
_PYTHON = "/usr/bin/python3"
_INIT = """#!/bin/busybox sh
export PATH=/bin:/usr/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t cgroup2 none /sys/fs/cgroup
exec </dev/console >/dev/console 2>&1
for module in /modules/*; do insmod $module; done
/usr/bin/python3 -ISB /undercroft_guest.py run &
exec /usr/bin/python3 -ISB /program.py
"""
_FILES_OF = """
import runpy, sys
runpy.run_path(sys.argv[1], run_name="listed")
import encodings.ascii, encodings.idna, encodings.latin_1
for module in list(sys.modules.values()):
    if (getattr(module, "__file__", None) or "").startswith("/usr/"):
        print(module.__file__)
"""


def require_guest_tools() -> None:
    """Raise NotFoundError naming the packages to install."""
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise NotFoundError(f"the small guest needs more packages: apt-get install {' '.join(missing)}")


def build(folder: Path, kept: Path, program: str) -> tuple[Path, Path]:
    """Make a kernel and an initrd, whose guest runs a Python program beside the helper; return both.

    Args:
        folder: for both; made anew.
        kept: a folder that keeps the kernel's package.
        program: of Python's standard library alone. It is read for what it imports, and not run then.

    Raises:
        OperationError: apt, or a program that this uses, failed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    root = folder / "root"
    for name in ("bin", "dev", "proc", "sys", "run", "modules"):
        (root / name).mkdir(parents=True)
    kernel = _kernel(folder / "package", kept, root / "modules")
    shutil.copy(str(shutil.which("busybox")), root / "bin" / "busybox")
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    shutil.copy(HELPER, root)
    (root / "program.py").write_text(program)
    for file in _python_files(root):
        place = root / str(file).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    archive = ("cpio", "--create", "--format=newc", "--owner=0:0", "--quiet")
    (folder / "initrd").write_bytes(_run(*archive, folder=root, text="\n".join(names)))
    shutil.copy(kernel, folder / "vmlinuz")
    shutil.rmtree(root)
    shutil.rmtree(folder / "package")
    return folder / "vmlinuz", folder / "initrd"


def _kernel(package: Path, kept: Path, modules: Path) -> Path:
    """Unpack the kernel's package; copy the modules in their order; return the kernel."""
    kept.mkdir(parents=True, exist_ok=True)
    depends = _run("apt-cache", "depends", _KERNEL_PACKAGE).decode()
    names = re.findall(r"Depends: (linux-image-\S+)", depends)
    if not names:
        raise OperationError(f"apt knows no {_KERNEL_PACKAGE}: check that 'apt-get update' works here")
    if not list(kept.glob(f"{names[0]}_*.deb")):
        _run("apt-get", "-q", "download", names[0], folder=kept)
    _run("dpkg-deb", "-x", str(next(kept.glob(f"{names[0]}_*.deb"))), str(package))
    found = {path.name.split(".")[0].replace("-", "_"): path for path in package.rglob("*.ko*")}
    for number, (name, content) in enumerate(_in_order(found)):
        (modules / f"{number:02}-{name}.ko").write_bytes(content)
    return next((package / "boot").glob("vmlinuz-*"))


def _in_order(found: dict[str, Path]) -> list[tuple[str, bytes]]:
    """Return the modules with what they depend on, each after what it needs; what is none is built in."""
    ordered: dict[str, bytes] = {}

    def take(name: str) -> None:
        path = found.get(name.replace("-", "_"))
        if path is None or name in ordered:
            return
        content = path.read_bytes()
        content = lzma.decompress(content) if path.suffix == ".xz" else content
        needed = re.search(rb"\0depends=([^\0]*)\0", content)
        for each in needed.group(1).decode().split(",") if needed else ():
            take(each)
        ordered[name] = content

    for name in _MODULES:
        take(name)
    return list(ordered.items())


def _python_files(root: Path) -> set[Path]:
    """Return what both programs' Python needs: itself, libraries, modules."""
    files = {Path(_PYTHON)}
    for program in (root / HELPER.name, root / "program.py"):
        listed = _run(_PYTHON, "-ISBc", _FILES_OF, str(program)).decode()
        files |= {Path(line) for line in listed.split()}
    for file in [each for each in files if each.suffix in ("", ".so")]:
        files |= {Path(word) for word in _run("ldd", str(file)).decode().split() if word.startswith("/")}
    return files


def _run(*command: str, folder: Path | None = None, text: str = "") -> bytes:
    """Run a program and return its output. Raises OperationError with what it said."""
    done = subprocess.run(command, cwd=folder, input=text.encode(), capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise OperationError(f"{command[0]} ended with {done.returncode}: {said[-2000:]}")
    return done.stdout
