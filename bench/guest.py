"""The benchmark's guest: a Debian machine with some 40,000 files, built once and kept in .cache/bench."""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "demo"))

from debian_guest import DiskLayout, build_tree, create_disk, require_tools  # noqa: E402 - the demo's builder
from host_mirror import host_mirror  # noqa: E402

CACHE = ROOT / ".cache" / "bench"
PACKAGES = (
    "git",
    "libboost-dev",
    "linux-headers-cloud-amd64",
    "linux-image-cloud-amd64",
    "nginx-light",
    "openssh-server",
    "perl",
    "postgresql",
    "python3",
    "rsyslog",
    "systemd-sysv",
    "vim",
)


def bench_image() -> Path:
    """Return the guest's disk image, built if it is not there."""
    image = CACHE / "guest.qcow2"
    if image.exists():
        return image
    require_tools()
    CACHE.mkdir(parents=True, exist_ok=True)
    tree = CACHE / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    build_tree(tree, host_mirror(), PACKAGES, CACHE, hostname="bench", documentation=True)
    create_disk(tree, image.with_suffix(".tmp"), DiskLayout(root_mib=3000))
    shutil.rmtree(tree)
    image.with_suffix(".tmp").rename(image)
    return image
