"""What fast commits change, laid over the inodes, maps and directories that lie on disk."""

from bisect import bisect_left
from dataclasses import dataclass, field

Run = tuple[int, int, int]
"""First logical block, number of blocks, first block on disk (0: reads as zeros)."""


@dataclass(slots=True)
class Changes:
    """Changes by inode number; empty for a filesystem without fast commits.

    Attributes:
        inodes: bytes that replace the inode, protected by the fast commit's checksum, not by their own.
        runs: all runs of the file, in order.
        names: names of a directory that were added (to which inode) or removed (None).
        created: directories that begin empty, whatever lies in their blocks.
    """

    inodes: dict[int, bytes] = field(default_factory=dict)
    runs: dict[int, list[Run]] = field(default_factory=dict)
    names: dict[int, dict[bytes, int | None]] = field(default_factory=dict)
    created: set[int] = field(default_factory=set)


def replace_range(runs: list[Run], logical: int, length: int, physical: int | None) -> None:
    """Map `length` blocks from `logical` on to `physical`, or to nothing, in a sorted list of runs."""
    end = logical + length
    first = bisect_left(runs, (logical,))
    if first and runs[first - 1][0] + runs[first - 1][1] > logical:
        first -= 1
    last = bisect_left(runs, (end,))
    middle = [] if physical is None else [(logical, length, physical)]
    if first < last:
        begin, count, block = runs[first]
        if begin < logical:
            middle.insert(0, (begin, logical - begin, block))
        begin, count, block = runs[last - 1]
        if begin + count > end:
            middle.append((end, begin + count - end, block and block + end - begin))
    runs[first:last] = middle
