"""Sets of volumes that a real kernel made: small images with the digest of every device, kept in tests/data.

    volumeimages.py lvm|md FOLDER     makes them anew in FOLDER with guestfish (some minutes under TCG)

A guest of libguestfs runs lvm or mdadm, fills each device with a pattern of its own and prints the SHA-256
of what its kernel reads from it. A kept set holds the disks' blocks that are not zero, and the digests.
"""

import hashlib
import json
import lzma
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from undercroft.disks.opening import open_volumes
from undercroft.disks.source import BlockSource, BytesSource
from undercroft.disks.volumes import DiskSet

DATA = Path(__file__).parents[1] / "data/volumes"
BLOCK = 4096
MIB = 1 << 20
SCRIPT_BYTES = 64 << 10
TIMEOUT_S = 1200


@dataclass(frozen=True)
class VolumeImages:
    """Disks by name, the digest of each device by name, and what else the guest said of each."""

    disks: Mapping[str, bytes]
    digests: Mapping[str, str]

    def open(self, **replaced: bytes | None) -> DiskSet:
        """Open the volumes of the disks, some of them replaced, or left out where None."""
        disks = {**self.disks, **replaced}
        return open_volumes([(name, BytesSource(data, name)) for name, data in disks.items() if data])


@cache
def kept(name: str) -> VolumeImages:
    """Return a kept set."""
    raw = lzma.decompress((DATA / f"{name}.xz").read_bytes())
    end = raw.index(b"\n")
    head = json.loads(raw[:end])
    disks = {disk: bytearray(size) for disk, size in head["disks"].items()}
    position = end + 1
    for disk, offset, length in head["pieces"]:
        disks[disk][offset : offset + length] = raw[position : position + length]
        position += length
    return VolumeImages({disk: bytes(data) for disk, data in disks.items()}, head["digests"])


def keep(name: str, images: VolumeImages, folder: Path = DATA) -> None:
    """Write a set, without its zeros."""
    pieces = [(disk, *piece) for disk, data in images.disks.items() for piece in _stretches(data)]
    head = {
        "disks": {disk: len(data) for disk, data in images.disks.items()},
        "pieces": pieces,
        "digests": dict(images.digests),
    }
    content = b"".join(images.disks[disk][offset : offset + length] for disk, offset, length in pieces)
    raw = json.dumps(head, separators=(",", ":")).encode() + b"\n" + content
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.xz").write_bytes(lzma.compress(raw, preset=6))


def _stretches(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of the stretches that hold anything."""
    start: int | None = None
    for offset in range(0, len(data) + BLOCK, BLOCK):
        piece = data[offset : offset + BLOCK]
        filled = piece.count(0) != len(piece)
        if filled and start is None:
            start = offset
        elif not filled and start is not None:
            yield start, min(offset, len(data)) - start
            start = None


def digest(source: BlockSource) -> str:
    """Return the SHA-256 of all of a source."""
    found = hashlib.sha256()
    for offset in range(0, source.size_bytes, MIB):
        found.update(source.read(offset, min(MIB, source.size_bytes - offset)))
    return found.hexdigest()


def make(name: str, folder: Path) -> VolumeImages:
    """Make a set with guestfish. Raises RuntimeError where it is not installed or fails."""
    if shutil.which("guestfish") is None:
        raise RuntimeError("needs guestfish (libguestfs-tools) and a kernel in /boot")
    disks = {"lvm": _lvm_disks, "md": _md_disks}[name](folder)
    script = folder / "script.img"
    text = (LVM if name == "lvm" else MD).encode()
    script.write_bytes(text + b"\n" * (SCRIPT_BYTES - len(text)))
    said = _guestfish([*disks.values(), script], f'debug sh "sh /dev/sd{"abcdefgh"[len(disks)]}"')
    lines = [line.split() for line in said.splitlines() if line.startswith("DIGEST ")]
    if not lines or "FAILED" in said:
        raise RuntimeError(said)
    digests = {fields[1]: fields[2] for fields in lines}
    return VolumeImages({disk: path.read_bytes() for disk, path in disks.items()}, digests)


def _guestfish(disks: list[Path], command: str) -> str:
    added = [part for disk in disks for part in ("-a", str(disk))]
    done = subprocess.run(
        ["guestfish", "--format=raw", *added, "run", ":", *command.split(" ", 2)[:2], command.split('"')[1]],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        env=os.environ | {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"},
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout


def _sparse(path: Path, size_bytes: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return path


def _partition(path: Path, lines: list[str]) -> None:
    script = "label: gpt\n" + "\n".join(lines) + "\n"
    command = ["sfdisk", "-q", "--no-tell-kernel", str(path)]
    subprocess.run(command, input=script, text=True, check=True, capture_output=True)


def _lvm_disks(folder: Path) -> dict[str, Path]:
    disks = {f"sd{letter}": _sparse(folder / f"sd{letter}.img", 33 * MIB) for letter in "abcd"}
    _partition(disks["sda"], ["start=2048, size=65000"])
    return disks


def _md_disks(folder: Path) -> dict[str, Path]:
    sizes = [4096] * sum(MD_MEMBERS)  # in sectors; half of it lies before the data of version 1
    for array in UNEQUAL:
        first = sum(MD_MEMBERS[:array])
        sizes[first : first + MD_MEMBERS[array]] = [4096, 3072, 6144][: MD_MEMBERS[array]]
    disk = _sparse(folder / "sda.img", sum(sizes) * 512 + 2 * MIB)
    starts = [2048 + sum(sizes[:number]) for number in range(len(sizes))]
    places = zip(starts, sizes, strict=True)
    _partition(disk, [f"start={start}, size={size}" for start, size in places])
    return {"sda": disk}


LVM = r"""
exec 2>&1
set -e
fill() { seq -f "$3%014.0f" 1 200000 | head -c $4 | dd of=$1 bs=4k seek=$2 conv=notrunc 2>/dev/null; }
digest() { echo "DIGEST vgone/$1 $(sha256sum < /dev/vgone/$1 | cut -c1-64)"; }
lv() { lvcreate -y -qq "$@" || echo "FAILED $*"; }
pvcreate -qq /dev/sda1 /dev/sdb /dev/sdd
pvcreate -qq --metadatacopies 0 /dev/sdc
vgcreate -qq -s 64k vgone /dev/sda1 /dev/sdb /dev/sdc /dev/sdd
lv -n lin-a -L 1M vgone
lv -n multi -L 512k vgone /dev/sda1
lvextend -qq -L 1M vgone/multi /dev/sdb
lv -n str -i 3 -I 16k -L 1536k vgone
lv --type mirror -m 1 --mirrorlog core -L 512k -n oldmirror vgone
lv --type raid1 -m 1 -L 512k -n raid1 vgone
lv --type raid0 -i 2 -I 16k -L 1M -n raid0 vgone
for kind in raid5_ls raid5_la raid5_rs raid5_ra raid5_n raid4; do
  lv --type $kind -i 2 -I 16k -L 1M -n $kind vgone
done
lv --type raid10 -i 2 -m 1 -I 16k -L 1M -n raid10 vgone
lv -T -L 4M --poolmetadatasize 2M -c 64k -n pool vgone
lv -V 16M -T vgone/pool -n thin
lv -n origin -L 1M vgone
lv -n mergeorigin -L 1M vgone
letters=bcdefghijklmnopqrstuvwxyz
for name in lin--a multi str oldmirror raid1 raid0 raid5_ls raid5_la raid5_rs raid5_ra raid5_n raid4 raid10 \
  origin mergeorigin; do
  letter=$(echo $letters | cut -c1); letters=$(echo $letters | cut -c2-)
  fill /dev/mapper/vgone-$name 0 $letter 1572864 || true
done
fill /dev/vgone/thin 0 A 1000000
fill /dev/vgone/thin 2000 B 300000
lv -s -n thinsnap vgone/thin
fill /dev/vgone/thin 20 C 300000
fill /dev/vgone/thin 3000 D 100000
lv -s -n thinsnap2 vgone/thin
lvchange -ay -K vgone/thinsnap vgone/thinsnap2
fill /dev/vgone/thinsnap2 60 E 70000
lv -n extorigin -L 256k vgone
fill /dev/vgone/extorigin 0 F 262144
digest extorigin
lvchange -qq -pr vgone/extorigin; lvchange -qq -an vgone/extorigin
lv -s --thinpool vgone/pool -n ext vgone/extorigin
lvchange -ay -K vgone/ext
fill /dev/vgone/ext 40 G 70000
lv -s -L 512k -n snap vgone/origin
fill /dev/vgone/origin 30 H 100000
fill /dev/vgone/snap 150 I 50000
lv -s -L 512k -n merging vgone/mergeorigin
fill /dev/vgone/mergeorigin 30 J 100000
# What the guest will see once it is no longer in use: the snapshot in its origin's place.
merged=$(sha256sum < /dev/vgone/merging | cut -c1-64)
exec 9< /dev/vgone/mergeorigin
lvconvert -qq --merge vgone/merging
lv -n cached -L 1M vgone
lv --type cache-pool -L 8M -n cpool vgone
lvconvert -y -qq --type cache --cachepool vgone/cpool vgone/cached || echo FAILED cache
for name in $(ls /dev/vgone | grep -v -e pool -e merg); do digest $name; done
echo "DIGEST vgone/mergeorigin $merged"
exec 9<&-
sync
dmsetup remove_all --force
exit 0
"""

MD_MEMBERS = (2, 2, 3, 3, 3, 4, 2, 3, 3, 2, 4, 3, 2, 3, 3, 4, 3, 2, 3, 2)
"""Of each array in the order of the script."""
UNEQUAL = (7, 8, 9)

MD = r"""
exec 2>&1
fill() { seq -f "$2%014.0f" 1 900000 | head -c $3 | dd of=$1 bs=64k conv=notrunc 2>/dev/null; }
for module in raid0 raid1 raid456 raid10 linear; do modprobe $module; done
n=10
first=0
letters=abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ
create() {
  name=$1; count=$2; shift 2
  parts=""; i=0
  while [ $i -lt $count ]; do first=$((first+1)); parts="$parts /dev/sda$first"; i=$((i+1)); done
  n=$((n+1)); letter=$(echo $letters | cut -c$((n-10)))
  mdadm --create /dev/md$n --run --quiet --homehost=lab --name=$name "$@" --raid-devices=$count $parts \
    </dev/null || echo "FAILED $name"
  mdadm --readwrite /dev/md$n 2>/dev/null
  mdadm --wait /dev/md$n 2>/dev/null
  fill /dev/md$n $letter 20000000
  names="$names $name:md$n"
}
create r1v090 2 -e 0.90 -l 1 --bitmap=none
create r1v10 2 -e 1.0 -l 1 --bitmap=none
create r5ls 3 -e 1.1 -l 5 -c 16 --bitmap=none
create r5la 3 -e 1.2 -l 5 -c 16 -p left-asymmetric --bitmap=none
create r5rs 3 -e 1.2 -l 5 -c 16 -p right-symmetric --bitmap=none
create r5ra 4 -e 1.2 -l 5 -c 16 -p right-asymmetric --bitmap=none
create r0 2 -e 1.2 -l 0 -c 16
create r0zones 3 -e 1.2 -l 0 -c 16
create r0original 3 -e 1.2 -l 0 -c 16 --layout=original
create linear 2 -e 1.2 -l linear
create r10n2 4 -e 1.2 -l 10 -c 16 --bitmap=none
create r10n2odd 3 -e 1.2 -l 10 -c 16 --bitmap=none
create r10f2 2 -e 1.2 -l 10 -c 16 -p f2 --bitmap=none
create r10o2 3 -e 1.2 -l 10 -c 16 -p o2 --bitmap=none
create r4 3 -e 1.2 -l 4 -c 16 --bitmap=none
create r6 4 -e 1.2 -l 6 -c 16 --bitmap=none
create r5v090 3 -e 0.90 -l 5 -c 16 --bitmap=none
create r1stale 2 -e 1.2 -l 1 --bitmap=none
mdadm -q /dev/md$n --fail /dev/sda$first; sleep 1; fill /dev/md$n Y 20000000
create r5stale 3 -e 1.2 -l 5 -c 16 --bitmap=none
mdadm -q /dev/md$n --fail /dev/sda$first; sleep 1; fill /dev/md$n Z 20000000
create r1bitmap 2 -e 1.2 -l 1 --bitmap=internal
sync; sleep 2
for pair in $names; do
  md=${pair#*:}
  name=md/${pair%:*}
  case $name in *v090) name=$md;; esac
  echo "DIGEST $name $(sha256sum < /dev/$md | cut -c1-64)"
done
sync
mdadm --stop --scan
exit 0
"""


def main() -> None:
    """Make a set and keep it in its folder, from where it may take the old one's place."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    keep(name, make(name, folder), folder)


if __name__ == "__main__":
    main()
