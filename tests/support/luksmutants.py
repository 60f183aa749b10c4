"""A worker that opens mutants of LUKS volumes under limits, and says what became of each.

    luksmutants.py FAMILY FIRST COUNT

prints one JSON object: seed -> "same", "refused", "wrong" or what crashed it. Headers and keyslots are
damaged, the data is not: nothing in XTS or CBC tells that it was changed. Each volume holds a small ext4
filesystem; an answer is wrong where its files are others than those of the base, and noise that no reader
takes for a filesystem is refused.
"""

import json
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

from extmutants import REFUSED, SAME, WRONG, digest_tree
from luksmaker import HEADER_BYTES, PASSPHRASE, Luks1, Luks2, resealed
from mutants import Family, mutate

from undercroft.disks import luks
from undercroft.disks.ext4 import open_filesystem
from undercroft.disks.keys import Key
from undercroft.disks.source import BytesSource
from undercroft.errors import InputError

MEMORY_LIMIT_BYTES = 768 << 20
TIME_LIMIT_S = 60
"""The largest derivation that a header may ask for takes a third of it on an idle machine."""

FAMILIES = ("luks1", "luks1-cbc", "luks2", "luks2-4k", "luks2-resealed")


@dataclass(frozen=True)
class Volume:
    """A family of mutants, and whether their checksums are set right again."""

    family: Family
    resealed: bool


def volume(name: str) -> Volume:
    """Return the family of that name."""
    plain = _filesystem()
    if name.startswith("luks1"):
        made = Luks1(plain=plain)
        if name == "luks1-cbc":
            made = Luks1(plain=plain, cipher="aes-cbc-essiv:sha256", key=bytes(range(32)), hash="sha1")
        image = made.build()
        areas: tuple[tuple[int, int], ...] = ((0, 592), (4096, 256))
    else:
        image = Luks2(plain=plain, sector_bytes=4096 if name == "luks2-4k" else 512).build()
        json_bytes = len(image[4096:HEADER_BYTES].rstrip(b"\0"))
        areas = ((0, 512), (4096, json_bytes))
        if name != "luks2-resealed":
            areas += ((HEADER_BYTES, 512), (HEADER_BYTES + 4096, json_bytes), (2 * HEADER_BYTES, 256))
    return Volume(Family(name, image, areas, "raw"), name.endswith("resealed"))


def mutant(made: Volume, seed: int) -> bytes:
    """Return a mutant; with `resealed` both copies of the header have the same damage and right checksums."""
    image = mutate(made.family, seed)
    if not made.resealed or len(image) < 2 * HEADER_BYTES:
        return image
    second = bytearray(made.family.image[HEADER_BYTES : 2 * HEADER_BYTES])
    second[8:256], second[264:448] = image[8:256], image[264:448]
    second[4096:] = image[4096:HEADER_BYTES]
    return resealed(image[:HEADER_BYTES] + bytes(second) + image[2 * HEADER_BYTES :])


def judge(image: bytes, expected: str) -> str:
    """Return the outcome for one mutant; anything but InputError comes back as its traceback."""
    signal.alarm(TIME_LIMIT_S)
    try:
        found, refused = _read(image)
    except InputError:
        return REFUSED
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.alarm(0)
    if refused:
        return REFUSED
    return SAME if found == expected else WRONG


def _read(image: bytes) -> tuple[str, list[str]]:
    opened = luks.open_volume(BytesSource(image), [Key("*", PASSPHRASE)])
    content = b"".join(
        opened.read(at, min(1 << 20, opened.size_bytes - at)) for at in range(0, opened.size_bytes, 1 << 20)
    )
    return digest_tree(content, open_filesystem)


def _filesystem() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        tree.mkdir()
        for number in range(12):
            (tree / f"file{number}").write_bytes(b"%d" % number * 300)
        path = Path(folder, "fs")
        command = [
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-O",
            "^has_journal",
            "-U",
            "clear",
            "-d",
            tree,
            path,
            "1M",
        ]
        subprocess.run(
            command, check=True, capture_output=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
        )
        return path.read_bytes()


def main() -> None:
    """Judge COUNT mutants of FAMILY from FIRST on."""
    name, first, count = sys.argv[1:]
    made = volume(name)
    luks.load()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    expected, refused = _read(made.family.image)
    assert not refused, refused
    outcomes = {
        seed: judge(mutant(made, seed), expected) for seed in range(int(first), int(first) + int(count))
    }
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main()
