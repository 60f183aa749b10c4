"""A campaign of mutants through the product's own path: sandboxed reader, every state, every job.

    .venv/bin/python tests/support/campaign.py --mutants 1000 --seed 1

prints the table that docs/ROBUSTNESS.md holds.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import xfsimages
import xfsmutants
from diskimages import MIB, run, to_raw, wrap_gpt
from machineimages import ROOT_UUID, debian_tree, make_filesystem, make_machine, packages
from mutants import Family, ext_areas, mutate, partition_areas, qcow2_areas, sample

from undercroft.errors import InputError
from undercroft.model.disk import DiskFormat
from undercroft.model.inventory import Package
from undercroft.ports.reader import Reader
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.session import start_reader
from undercroft.usecases.target import from_images

SAME, INCOMPLETE, REFUSED, CRASH = "same", "incomplete", "refused", "crash"
RELABELLED = "relabelled"  # the right packages under a wrong snapshot name, which no checksum covers
WRONG = "wrong"
Answer = dict[str, tuple[Package, ...]]


@dataclass
class Tally:
    """What became of the mutants of one family; a mutant counts with its worst outcome."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    crashes: list[str] = field(default_factory=list)


XFS_OPTIONS = ("-b", "size=1024", "-l", "size=6m")
_UPGRADE = r"""
import os, sys
status = "var/lib/dpkg/status"
with open(status + "-new", "wb") as file:
    file.write(open(os.path.join(sys.argv[1], status), "rb").read())
    os.fsync(file.fileno())
os.rename(status + "-new", status)
os.fsync(os.open(os.path.dirname(status), os.O_RDONLY))
"""


def families(folder: Path) -> list[Family]:
    """Make the base images; a few seconds."""
    old = debian_tree(folder / "old", packages(30, "1.0-1"), _filler(1))
    new = debian_tree(folder / "new", packages(30, "1.0-2"), _filler(2))
    states = [("before", old), ("now", new)]
    made = []
    for name, compressed, options in [
        ("qcow2", False, {"cluster_size": 4096}),
        ("qcow2-zstd-extl2", False, {"extended_l2": "on", "cluster_size": 16384}),
        ("qcow2-zlib-v2", True, {"compat": "0.10", "cluster_size": 512}),
    ]:
        image = make_machine(
            folder / f"{name}.qcow2",
            states,
            qcow2_options=options,
            compressed=compressed,
            size_bytes=12 * MIB,
        )
        content = image.read_bytes()
        made.append(Family(name, content, qcow2_areas(content), "qcow2"))
    for name, table, options in [
        ("gpt-ext4-csum", "gpt", ("-t", "ext4")),
        ("mbr-ext4-1k-inline", "mbr", ("-t", "ext4", "-b", "1024", "-O", "inline_data")),
        ("mbr-ext2", "mbr", ("-t", "ext2", "-b", "1024")),
    ]:
        image = make_machine(folder / f"{name}.qcow2", states[1:], *options, table=table, size_bytes=12 * MIB)
        raw = to_raw(image, folder / f"{name}.raw")
        content = raw.read_bytes()
        offset = MIB if table == "gpt" else 2 * MIB
        made.append(Family(name, content, ext_areas(raw, offset), "raw"))
        made.append(Family(f"{table}-table-{name}", content, partition_areas(content, table), "raw"))
    raw = _with_dirty_journal(folder, old, new)
    made.append(Family("gpt-ext4-dirty-journal", raw.read_bytes(), ext_areas(raw, MIB), "raw"))
    return [*made, *_xfs_families(folder, old, new)]


def _xfs_families(folder: Path, old: Path, new: Path) -> Iterator[Family]:
    """Yield XFS with and without checksums, and where the kernel can write it, with a log to be replayed.

    The log, once replayed, turns the packages of `old` into those of `new`.
    """
    if not shutil.which("mkfs.xfs"):
        return
    uuid = f"uuid={ROOT_UUID}"
    made = {
        f"gpt-xfs-v{4 + crc}": xfsimages.make_from(
            new, folder / f"v{4 + crc}.xfs", "-m", f"crc={crc},{uuid}", *XFS_OPTIONS, size="20M"
        )
        for crc in (0, 1)
    }
    if not xfsimages.mounting_problem():
        base = xfsimages.make_from(old, folder / "log.xfs", "-m", uuid, *XFS_OPTIONS, size="20M")
        made["gpt-xfs-dirty-log"] = xfsimages.dirty(base, _UPGRADE, str(new))
    for name, filesystem in made.items():
        raw = wrap_gpt(folder / f"{name}.raw", [filesystem])
        found = xfsmutants.areas(filesystem.read_bytes())
        areas = tuple((MIB + start, length) for start, length in found)
        yield Family(name, raw.read_bytes(), areas, "raw")


def _with_dirty_journal(folder: Path, old: Path, new: Path) -> Path:
    """Make a disk whose journal, once replayed, turns the packages of `old` into those of `new`.

    The changed blocks are written as one transaction by debugfs, as a crash would leave them: no mount.
    """
    before = make_filesystem(old, folder / "before.fs", "-t", "ext4", size_bytes=12 * MIB)
    after = folder / "after.fs"
    after.write_bytes(before.read_bytes())
    status = "/var/lib/dpkg/status"
    debugfs(after, f"rm {status}", f"write {new}{status} {status}")
    block = 1024
    pairs = list(zip(_blocks(before, block), _blocks(after, block), strict=True))
    changed = [number for number, (one, other) in enumerate(pairs) if one != other and number > 1]
    content = folder / "transaction"
    content.write_bytes(b"".join(pairs[number][1] for number in changed))
    debugfs(
        before, "journal_open", f"journal_write -b {','.join(map(str, changed))} {content}", "journal_close"
    )
    return wrap_gpt(folder / "journal.raw", [before])


def debugfs(image: Path, *requests: str) -> None:
    """Run debugfs requests on an image, writing."""
    run("debugfs", "-w", "-f", "-", image, stdin="\n".join(requests) + "\n")


def _blocks(image: Path, size: int) -> list[bytes]:
    content = image.read_bytes()
    return [content[start : start + size] for start in range(0, len(content), size)]


def _filler(salt: int) -> dict[str, bytes]:
    """Return files that give the filesystem some directories, extents and symlinks to damage."""
    files = {f"usr/share/doc/pkg{n:04}/copyright": bytes([salt]) * (n * 300) for n in range(60)}
    files["opt/vendor/bin/tool"] = b"\x7fELF" * 100
    return files


def read_states(path: str, image_format: str, reader: Reader) -> tuple[Answer, list[str]]:
    """Return the packages of every state, and every problem that was named."""
    answer: Answer = {}
    problems: list[str] = []
    with OpenMachine(from_images([path], image_format=DiskFormat(image_format)), reader) as machine:
        for state in machine.states:
            try:
                inventory = machine.inventory(state)
            except InputError as error:
                problems.append(str(error))
                continue
            answer[state.name] = inventory.packages
            problems.extend(inventory.coverage.problems)
    return answer, problems


def judge(path: str, family: Family, expected: Answer, reader: Reader) -> str:
    """Return the outcome for the mutant at `path`."""
    try:
        answer, problems = read_states(path, family.image_format, reader)
    except InputError:
        return REFUSED
    if any("report this" in problem for problem in problems):
        return f"{CRASH}: {problems}"
    if problems:
        return INCOMPLETE if answer else REFUSED
    if answer == expected:
        return SAME
    return RELABELLED if list(answer.values()) == list(expected.values()) else WRONG


def run_campaign(
    bases: Sequence[Family], count: int, seed: int, reader: Reader, folder: Path
) -> dict[str, Tally]:
    """Run `count` mutants and return a tally for each family."""
    tallies = {family.name: Tally() for family in bases}
    target = str(folder / "mutant")
    expected = {}
    for family in bases:
        Path(target).write_bytes(family.image)
        expected[family.name], problems = read_states(target, family.image_format, reader)
        assert expected[family.name], family.name
        assert not problems, (family.name, problems)
    for family, number in sample(bases, count, seed):
        Path(target).write_bytes(mutate(family, number) or b"\0")
        started = time.monotonic()
        outcome = judge(target, family, expected[family.name], reader)
        tally = tallies[family.name]
        tally.slowest_s = max(tally.slowest_s, time.monotonic() - started)
        tally.outcomes[outcome.split(":")[0]] += 1
        if outcome.startswith(CRASH):
            tally.crashes.append(f"{family.name}:{number} {outcome}")
    return tallies


def table(tallies: dict[str, Tally]) -> str:
    """Return the tallies as a Markdown table."""
    columns = (SAME, INCOMPLETE, REFUSED, RELABELLED, WRONG, CRASH)
    lines = [
        f"| family | mutants | {' | '.join(columns)} | slowest, s |",
        "|---|" + "---|" * (len(columns) + 2),
    ]
    for name, tally in tallies.items():
        counts = " | ".join(str(tally.outcomes[column]) for column in columns)
        lines.append(f"| {name} | {tally.outcomes.total()} | {counts} | {tally.slowest_s:.2f} |")
    return "\n".join(lines)


def main(write: Callable[[str], object] = sys.stdout.write) -> None:
    """Run a campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        reader = start_reader()
        bases = families(Path(name))
        tallies = run_campaign(bases, arguments.mutants, arguments.seed, reader, Path(name))
        reader.close()
    write(table(tallies) + "\n")
    for tally in tallies.values():
        for crash in tally.crashes:
            write(crash + "\n")


if __name__ == "__main__":
    main()
