"""Builds real Debian guests as disk images: no boot, no mount, no loop device. Needs root.

A tree of files comes from mmdebstrap, a filesystem from `mke2fs -d`, a partition table from sfdisk, the
image from qemu-img. A second state goes into the same qcow2 with `qemu-img convert -n`, which leaves its
snapshots as they are. Packages that were downloaded once are kept in a cache folder.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from host_mirror import HostMirror, source_line

from undercroft.errors import DeniedError, NotFoundError, OperationError

MIB = 1 << 20
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "qemu-img": "qemu-utils",
    "mke2fs": "e2fsprogs",
    "sfdisk": "fdisk",
    "mkswap": "util-linux",
    "unshare": "util-linux",
}
"""Programs that are used, and the Debian packages that have them."""

_TAIL_LINES = 40
_CHECK_APT = "check that 'apt-get update' works on this machine, and the space on the disk"
_NO_DOCUMENTATION = tuple(
    f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale", "info")
)
_ROOT_UUID = "6f1d9d0e-3f0a-4d5c-9a3e-0d9c55a1b001"
_SWAP_UUID = "6f1d9d0e-3f0a-4d5c-9a3e-0d9c55a1b002"
_FSTAB = f"UUID={_ROOT_UUID} / ext4 errors=remount-ro 0 1\nUUID={_SWAP_UUID} none swap sw 0 0\n"


@dataclass(frozen=True, slots=True)
class DiskLayout:
    """GPT: a root filesystem, then swap."""

    root_mib: int = 900
    swap_mib: int = 64

    @property
    def disk_mib(self) -> int:
        """Size of the disk: a MiB for each copy of the table, and the partitions."""
        return self.root_mib + self.swap_mib + 2


def require_tools() -> None:
    """Raise NotFoundError naming the packages to install, DeniedError unless root."""
    missing = sorted(
        {package for tool, package in TOOLS.items() if shutil.which(tool, path=_search_path()) is None}
    )
    if missing:
        raise NotFoundError(f"building a guest needs more packages: apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        raise DeniedError(
            "building a guest's files needs root (they belong to several users): run it with sudo"
        )


def build_tree(
    tree: Path,
    mirror: HostMirror,
    packages: Iterable[str],
    cache: Path,
    *,
    hostname: str,
    documentation: bool = False,
) -> None:
    """Make `tree` the root of a guest with `packages` of the main suite alone, as published.

    Args:
        tree: a folder that does not exist yet.
        mirror: where packages come from.
        packages: names, besides the required ones and apt.
        cache: folder that keeps downloaded packages.
        hostname: of the guest.
        documentation: keep manuals and translations, which are thousands of small files.

    Raises:
        OperationError: mmdebstrap failed; the message has its last lines.
    """
    archives = cache / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    inside = '"$1"/var/cache/apt/archives'
    _run(
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        "--skip=essential/unlink",  # keep what was downloaded until it is in the cache
        f"--setup-hook=mkdir -p {inside}; cp -l {shlex.quote(str(archives))}/*.deb {inside} || true",
        f"--customize-hook=cp -n {inside}/*.deb {shlex.quote(str(archives))}",
        "--dpkgopt=force-unsafe-io",  # a folder that can be built again needs no fsync for each file
        "--aptopt=Acquire::Languages none",
        "--aptopt=APT::Install-Recommends false",
        *(f"--aptopt={option.replace('=', ' ', 1)}" for option in mirror.apt_options),
        *(() if documentation else _NO_DOCUMENTATION),
        mirror.codename,
        str(tree),
        source_line(mirror.main, cache),
        cure=_CHECK_APT,
    )
    (tree / "etc/hostname").write_text(f"{hostname}\n")
    (tree / "etc/fstab").write_text(_FSTAB)


def upgrade_tree(tree: Path, mirror: HostMirror, cache: Path) -> int:
    """Upgrade `tree` from the security suite, as its administrator would; return how many packages changed.

    Raises:
        OperationError: apt failed; the message has its last lines.
    """
    archives, inside = cache / "archives", tree / "var/cache/apt/archives"
    security = source_line(mirror.security, cache)
    (tree / "etc/apt/sources.list.d/security.list").write_text(f"{security}\n")
    _copy_key(tree, security)
    shutil.copy("/etc/resolv.conf", tree / "etc/resolv.conf")
    policy = tree / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")  # no service may start from an upgrade in a folder
    policy.chmod(0o755)
    for package in archives.glob("*.deb"):
        os.link(package, inside / package.name)
    before = _versions(tree)
    # The main suite has nothing newer, and its index takes longer than all the rest.
    security_only = ("-o", "Dir::Etc::SourceList=/dev/null")
    _apt(tree, mirror, "update", *security_only)
    _apt(tree, mirror, "upgrade", *security_only)
    for package in inside.glob("*.deb"):
        package.replace(archives / package.name)
    _apt(tree, mirror, "clean")
    shutil.rmtree(tree / "var/lib/apt/lists")
    policy.unlink()
    (tree / "etc/resolv.conf").unlink()
    return len(_versions(tree) - before)


def create_disk(tree: Path, image: Path, layout: DiskLayout) -> None:
    """Write `tree` as the disk of a new qcow2 `image`. Raises OperationError."""
    raw = image.with_suffix(".raw")
    _raw_disk(tree, raw, layout)
    _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(image))
    raw.unlink()


def replace_disk(tree: Path, image: Path, layout: DiskLayout) -> None:
    """Write `tree` as the current state of `image`, whose snapshots stay. Raises OperationError."""
    raw = image.with_suffix(".raw")
    _raw_disk(tree, raw, layout)
    _run("qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", str(raw), str(image))
    raw.unlink()


def take_snapshot(image: Path, name: str) -> None:
    """Take the internal snapshot `name`, as `virsh snapshot-create-as` does. Raises OperationError."""
    _run("qemu-img", "snapshot", "-c", name, str(image))


def _raw_disk(tree: Path, raw: Path, layout: DiskLayout) -> None:
    with raw.open("wb") as file:
        file.truncate(layout.disk_mib * MIB)
    table = (
        "label: gpt\n"
        f"start=1MiB, size={layout.root_mib}MiB, type=linux, name=root\n"
        f"size={layout.swap_mib}MiB, type=swap, name=swap\n"
    )
    # Without --no-tell-kernel it ends with sync(2), which waits for every other filesystem of the machine.
    _run("sfdisk", "-q", "--no-tell-kernel", str(raw), text=table)
    _run(
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-L",
        "root",
        "-U",
        _ROOT_UUID,
        "-d",
        str(tree),
        "-E",
        f"offset={MIB},root_owner=0:0",
        str(raw),
        f"{layout.root_mib}M",
    )
    swap = raw.with_suffix(".swap")
    with swap.open("wb") as file:
        file.truncate(layout.swap_mib * MIB)
    _run("mkswap", "-q", "-U", _SWAP_UUID, str(swap))
    with raw.open("r+b") as file:
        file.seek((1 + layout.root_mib) * MIB)
        file.write(swap.read_bytes()[:4096])
    swap.unlink()


def _apt(tree: Path, mirror: HostMirror, *arguments: str) -> None:
    """Run apt-get inside `tree`, in namespaces that end whatever a package might have started."""
    options = ["Acquire::Languages=none", "Dpkg::Options::=--force-confold", *mirror.apt_options]
    _run(
        *(
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "chroot",
            str(tree),
            "apt-get",
            "-q",
            "-y",
        ),
        *(part for option in options for part in ("-o", option)),
        *arguments,
        cure=_CHECK_APT,
    )


def _copy_key(tree: Path, line: str) -> None:
    """Give the guest the keyring that the machine checks the mirror with, where it is not its own."""
    _, _, rest = line.partition("[signed-by=")
    key = Path(rest.partition("]")[0])
    if rest and key.is_file() and not (target := tree / key.relative_to("/")).exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(key, target)


def _versions(tree: Path) -> set[str]:
    query = _run(
        "dpkg-query", f"--admindir={tree}/var/lib/dpkg", "-W", "-f", "${binary:Package} ${Version}\n"
    )
    return set(query.splitlines())


def _search_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _run(*command: str, text: str = "", cure: str = "check the space on the disk") -> str:
    """Run a program and return its output. Raises OperationError with its last lines and what to do."""
    environment = {
        **os.environ,
        "PATH": _search_path(),
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    done = subprocess.run(
        command,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        tail = "\n    ".join(done.stdout.splitlines()[-_TAIL_LINES:])
        raise OperationError(f"{command[0]} ended with {done.returncode}; {cure}:\n    {tail}")
    return done.stdout
