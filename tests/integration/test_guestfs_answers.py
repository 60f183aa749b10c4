"""LVM and LUKS beside guestfish and virt-inspector: files and packages are what a guest's kernel maps."""

import hashlib
import json
from pathlib import Path

import guestfsanswers
import luksimages
import lvmmaker
import pytest
from diskimages import MIB, wrap_gpt
from guestfsanswers import Asked
from luksimages import PASSPHRASE, key_file
from machineimages import DebPackage, debian_tree, make_filesystem
from program import run_program

import undercroft

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(bool(guestfsanswers.missing()), reason=guestfsanswers.missing() or "-"),
]
LIMIT_S = 900
INSTALLED = [
    DebPackage("openssl", "3.0.11-1~deb12u2"),
    DebPackage("libc6", "2.36-9+deb12u4", "glibc"),
    *(DebPackage(f"pkg{number}", f"1:{number}.0-1") for number in range(10)),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree") / "tree"
    extra = {
        "usr/bin/true": b"a program",
        "srv/large": bytes(range(256)) * 12_000,
        "srv/empty": b"",
        **{f"srv/many/file{number}": b"%d" % number * 3000 for number in range(60)},
    }
    debian_tree(folder, INSTALLED, extra)
    (folder / "bin").symlink_to("usr/bin")
    with (folder / "srv/sparse").open("wb") as file:
        file.seek(3 * MIB)
        file.write(b"the end")
    return folder


def lvm(tree: Path, folder: Path) -> Asked:
    """A root behind another logical volume."""
    plain = make_filesystem(tree, folder / "plain", size_bytes=32 * MIB).read_bytes()
    volume = folder / "volume"
    volume.write_bytes(lvmmaker.physical_volume({"data": bytes(8 * MIB), "root": plain}))
    return Asked(wrap_gpt(folder / "lvm.raw", [volume]), device="/dev/vg/root")


def luks(tree: Path, folder: Path, version: int) -> Asked:
    plain = make_filesystem(tree, folder / "plain", size_bytes=32 * MIB)
    encrypted = luksimages.encrypted2 if version == 2 else luksimages.encrypted1
    disk = wrap_gpt(folder / "luks.raw", [encrypted(plain, folder / "volume")])
    return Asked(disk, passphrase=PASSPHRASE.decode())


@pytest.mark.parametrize("kind", ["lvm", "luks1", "luks2"])
def test_files_and_packages_are_those_that_guestfish_reads(kind: str, tree: Path, tmp_path: Path) -> None:
    asked = lvm(tree, tmp_path) if kind == "lvm" else luks(tree, tmp_path, int(kind[4:]))
    paths = [str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()]
    theirs = guestfsanswers.digests(asked, paths, limit_s=LIMIT_S)
    keys = {"*": PASSPHRASE} if asked.passphrase else {}
    with undercroft.open(str(asked.image), keys=keys) as machine:
        state = machine.state("current")
        ours = {path: sha256(machine.content(state, f"/{path}")) for path in paths}
    assert ours == theirs
    assert len(ours) == len(paths) >= 70
    arguments = ["-f", "json"]
    if asked.passphrase:
        arguments += ["--key", f"*={key_file(tmp_path)}"]
    done = run_program(tmp_path / "db", "packages", asked.image, "--image-format", "raw", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {
        (each["name"], each["version"].rpartition(":")[2]) for each in json.loads(done.stdout)["packages"]
    }
    assert found == guestfsanswers.packages(asked, limit_s=LIMIT_S)
    assert len(found) == len(INSTALLED)


def sha256(pieces: object) -> str:
    digest = hashlib.sha256()
    for piece in pieces:  # type: ignore[attr-defined] # an iterator of bytes
        digest.update(piece)
    return digest.hexdigest()
