"""Partition tables: GPT, MBR with logical partitions, BSD labels inside of them or on a whole disk.

`read_table` takes a disk as a block source and gives a `PartitionTable`. A table as a whole that is not
sound raises `InputError`; a single partition that is not is given back with its `problem`, so that the
others can be read and this one is reported. A disk without a table is of kind "none".
"""

from undercroft.disks.partitions.reader import read_table
from undercroft.disks.partitions.table import Partition, PartitionTable

__all__ = ["Partition", "PartitionTable", "read_table"]
