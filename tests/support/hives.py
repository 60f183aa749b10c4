"""Registry hives for tests: an empty one by hand, filled by hivexregedit, logs written after the format."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from diskimages import run

from undercroft.inventory.windows.hivelog import checksum, marvin32

ROOT = 0x20


def empty_hive() -> bytes:
    """A hive of one bin with a root key and one free cell."""
    key = struct.pack("<2sH", b"nk", 0x2C).ljust(16, b"\0")
    key += struct.pack("<8I", 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0xFFFFFFFF, ROOT + 88)
    key = key.ljust(16 + 32, b"\0") + struct.pack("<I", 0xFFFFFFFF)
    key = key.ljust(72, b"\0") + struct.pack("<2H", 4, 0) + b"ROOT"
    cell = struct.pack("<i", -88) + key.ljust(84, b"\0")
    owner = b"\1\2\0\0\0\0\0\5\x20\0\0\0\x20\2\0\0"
    descriptor = struct.pack("<2BHIIII", 1, 0, 0x8000, 20, 36, 0, 0) + owner + owner
    security = struct.pack("<2sHIIII", b"sk", 0, ROOT + 88, ROOT + 88, 1, len(descriptor)) + descriptor
    length = -(-(len(security) + 4) // 8) * 8
    cell += struct.pack("<i", -length) + security.ljust(length - 4, b"\0")
    head = struct.pack("<4sII8xQI", b"hbin", 0, 4096, 132_000_000_000_000_000, 0)
    rest = 4096 - len(head) - len(cell)
    bins = head + cell + struct.pack("<i", rest).ljust(rest, b"\0")
    return base_block(1, 1, ROOT, len(bins)).ljust(4096, b"\0") + bins


def base_block(first: int, second: int, root: int, bins_bytes: int, kind: int = 0) -> bytes:
    """The first 512 bytes of a hive or of its log."""
    head = struct.pack("<4sIIQ", b"regf", first, second, 132_000_000_000_000_000)
    head += struct.pack("<7I", 1, 5, kind, 1, root, bins_bytes, 1)
    return with_checksum(head.ljust(512, b"\0"))


def with_checksum(base: bytes) -> bytes:
    """Return a base block with its checksum."""
    return base[:508] + struct.pack("<I", checksum(base))


def fill(path: Path, keys: str, prefix: str = "HKEY_LOCAL_MACHINE\\SOFTWARE") -> Path:
    """Make a hive with what a .reg file says, by hivexregedit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(empty_hive())
    merge(path, keys, prefix)
    return path


def merge(path: Path, keys: str, prefix: str = "HKEY_LOCAL_MACHINE\\SOFTWARE") -> None:
    """Change a hive as a .reg file says."""
    registry = path.with_suffix(".reg")
    registry.write_text("Windows Registry Editor Version 5.00\n\n" + keys.replace("HKLM", prefix))
    run("hivexregedit", "--merge", "--prefix", prefix, path, registry)
    registry.unlink()


def keys_of(entries: Mapping[str, Mapping[str, str | int]]) -> str:
    """Return the text of a .reg file: values by key, each behind the keys above it."""
    lines = []
    made = set[str]()
    for key, values in entries.items():
        parts = key.split("\\")
        above = ["\\".join(parts[:depth]) for depth in range(1, len(parts))]
        lines += [f"[HKLM\\{one}]\n" for one in above if one not in made]
        made |= {*above, key}
        lines.append(f"[HKLM\\{key}]")
        for name, value in values.items():
            quoted = str(value).replace("\\", "\\\\")
            shown = f"dword:{value:08x}" if isinstance(value, int) else f'"{quoted}"'
            lines.append(f'"{name}"={shown}')
        lines.append("")
    return "\n".join(lines) + "\n"


def log_of(entries: Sequence[tuple[int, int, Mapping[int, bytes]]]) -> bytes:
    """Return a log: base block and entries of (sequence, length of the bins, pages by offset in the bins)."""
    log = base_block(1, 1, ROOT, 4096, kind=6)
    for sequence, bins_bytes, pages in entries:
        body = b"".join(struct.pack("<2I", offset, len(page)) for offset, page in pages.items())
        body += b"".join(pages.values())
        size = -(-(40 + len(body)) // 512) * 512
        body = body.ljust(size - 40, b"\0")
        head = struct.pack("<4s5IQ", b"HvLE", size, 0, sequence, bins_bytes, len(pages), marvin32(body))
        log += head + struct.pack("<Q", marvin32(head)) + body
    return log


def dirty(before: bytes, after: bytes, sequence: int = 7) -> tuple[bytes, bytes]:
    """Return (hive, log) of a machine that died with `after` in the log and `before` in the hive."""
    root, bins_bytes = struct.unpack_from("<2I", after, 36)
    pages = {
        offset: after[4096 + offset : 8192 + offset]
        for offset in range(0, bins_bytes, 4096)
        if after[4096 + offset : 8192 + offset] != before[4096 + offset : 8192 + offset]
    }
    old = int.from_bytes(before[40:44], "little")
    hive = base_block(sequence + 1, sequence, root, old).ljust(4096, b"\0") + before[4096:]
    return hive, log_of([(sequence, bins_bytes, pages)])


WINDOWS = {
    "Microsoft\\Windows NT\\CurrentVersion": {
        "ProductName": "Windows 10 Pro",
        "CurrentBuild": "22631",
        "CurrentVersion": "6.3",
        "CurrentMajorVersionNumber": 10,
        "CurrentMinorVersionNumber": 0,
        "UBR": 2861,
        "DisplayVersion": "23H2",
        "InstallationType": "Client",
    },
}
_PACKAGES = "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\Packages\\"
UPDATES: dict[str, dict[str, str | int]] = {
    _PACKAGES + "Package_for_KB5033055~31bf3856ad364e35~amd64~~22621.2851.1.1": {"CurrentState": 0x70},
    _PACKAGES + "Package_12_for_KB5033055~31bf3856ad364e35~amd64~~22621.2851.1.1": {"CurrentState": 0x70},
    _PACKAGES + "Package_for_KB5029921~31bf3856ad364e35~amd64~~22621.2134.1.0": {"CurrentState": 0x50},
    _PACKAGES + "Package_for_RollupFix~31bf3856ad364e35~amd64~~22621.2861.1.10": {"CurrentState": 0x70},
    _PACKAGES + "Microsoft-Windows-Foundation-Package~31bf3856ad364e35~amd64~~1.2": {"CurrentState": 0x70},
}
_UNINSTALL = "Microsoft\\Windows\\CurrentVersion\\Uninstall\\"
PROGRAMS: dict[str, dict[str, str | int]] = {
    _UNINSTALL + "{AAAA}": {
        "DisplayName": "7-Zip 23.01 (x64)",
        "DisplayVersion": "23.01",
        "Publisher": "Igor Pavlov",
    },
    _UNINSTALL + "{BBBB}": {"DisplayName": "Update for X", "ParentKeyName": "X", "DisplayVersion": "1"},
    _UNINSTALL + "Nameless": {"SystemComponent": 1},
    "WOW6432Node\\" + _UNINSTALL + "Editor": {"DisplayName": "Old Editor", "DisplayVersion": "4.2"},
}
SYSTEM: dict[str, dict[str, str | int]] = {
    "Select": {"Current": 2, "Default": 2},
    "ControlSet001\\Control\\ComputerName\\ComputerName": {"ComputerName": "OLDNAME"},
    "ControlSet002\\Control\\ComputerName\\ComputerName": {"ComputerName": "DESKTOP-1"},
}


def software(path: Path, more: str = "") -> Path:
    """Make the hive SOFTWARE of a Windows 11 with updates and programs."""
    return fill(path, keys_of({**WINDOWS, **UPDATES, **PROGRAMS}) + more)
