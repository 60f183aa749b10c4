"""A filesystem's whole content as a mapping, read by our readers or by the kernel.

A tree is {path: (mode, uid, gid, links, size, mtime, digest or link target)}, names as printable text.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from undercroft.disks.filesystem import FileKind, FileSystem

Tree = dict[str, tuple[object, ...]]

KERNEL_WALK = r"""
import hashlib, json, os, stat, sys
top = os.fsencode(sys.argv[1])
tree = {}
paths = [top]
for folder, folders, files in os.walk(top):
    paths += [os.path.join(folder, name) for name in folders + files]
for path in paths:
    status = os.lstat(path)
    content = ""
    if stat.S_ISLNK(status.st_mode):
        content = repr(os.readlink(path))
    elif stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(open(path, "rb").read()).hexdigest()
    name = repr(path[len(top):].lstrip(b"/"))
    tree[name] = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_size,
                  int(status.st_mtime), content)
json.dump(tree, sys.stdout)
"""


def kernel_missing() -> str:
    """Return why the kernel cannot be the oracle here, "" when it can."""
    if os.geteuid() != 0:
        return "a kernel mount needs root"
    if not Path("/dev/loop-control").exists():
        return "a kernel mount of an image needs loop devices"
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return "a kernel mount needs util-linux"
    return ""


def read_with_kernel(image: Path) -> Tree:
    """Mount a raw image that may be written to (the journal is replayed on it), and read everything."""
    mount_point = image.with_suffix(".mount")
    mount_point.mkdir()
    script = 'mount -o loop "$1" "$2" && "$3" -c "$4" "$2"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    arguments = [str(image), str(mount_point), sys.executable, KERNEL_WALK]
    done = subprocess.run([*command, *arguments], capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the kernel cannot read {image}: {done.stderr.decode()}")
    return {path: tuple(facts) for path, facts in json.loads(done.stdout).items()}


def read_with(filesystem: FileSystem) -> Tree:
    """Read everything with one of our readers."""
    tree: Tree = {}
    pending = [(b"", filesystem.root)]
    while pending:
        path, node = pending.pop()
        status = filesystem.stat(node)
        content = ""
        if status.kind is FileKind.SYMLINK:
            content = repr(filesystem.readlink(node))
        elif status.kind is FileKind.REGULAR:
            digest = hashlib.sha256()
            for chunk in filesystem.chunks(node):
                digest.update(chunk)
            content = digest.hexdigest()
        elif status.kind is FileKind.DIRECTORY:
            entries = filesystem.entries(node)
            pending += [(path + b"/" + name if path else name, child) for name, child, _kind in entries]
        tree[repr(path)] = (
            *(status.mode, status.uid, status.gid, status.links, status.size_bytes),
            *(status.modified_at_s, content),
        )
    return tree


def contents_whatever_case(filesystem: FileSystem, other_case: Callable[[str], str]) -> dict[str, str]:
    """Return the digest of each file and "folder" for each folder, by path.

    Each has to be found by its name in another case as well, and to be as long as it says.
    """
    found: dict[str, str] = {}
    pending = [("", filesystem.root)]
    while pending:
        base, directory = pending.pop()
        for raw, node, kind in filesystem.entries(directory):
            name = raw.decode()
            stat = filesystem.stat(node)
            assert stat.kind is kind
            assert filesystem.lookup(directory, other_case(name).encode()) == node
            if kind is FileKind.DIRECTORY:
                found[base + name] = "folder"
                pending.append((f"{base}{name}/", node))
            else:
                content = b"".join(filesystem.chunks(node))
                assert len(content) == stat.size_bytes
                found[base + name] = hashlib.sha256(content).hexdigest()
    return found
