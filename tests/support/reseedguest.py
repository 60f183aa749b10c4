"""A real guest without Python: a kernel, busybox and the small helper of C. QEMU without acceleration.

It says DRAW and HWRNG with 16 random bytes each, several times a second, of /dev/urandom and of /dev/hwrng.
"""

import re
import shutil
from pathlib import Path

import channelguest
import guests
import reseedhelper
from channelguest import ChannelGuest
from channelpair import Host

MEMORY_MIB = 96
RNG = "rng-random,filename=/dev/urandom"
_HEX = "hexdump -v -e '/1 \"%02x\"'"
SILENT = """
mkdir -p /run /sys/fs/cgroup /etc/undercroft/hooks.d
mount -t tmpfs run /run
mount -t cgroup2 none /sys/fs/cgroup
/undercroft-reseed
"""
"""The workload of a guest that draws nothing."""
_WORKLOAD = f"""
mkdir -p /run /sys/fs/cgroup /etc/undercroft/hooks.d
mount -t tmpfs run /run
mount -t cgroup2 none /sys/fs/cgroup
printf '#!/bin/sh\\necho HOOK $UNDERCROFT_GENERATION > /dev/ttyS0\\n' > /etc/undercroft/hooks.d/tell
chmod 755 /etc/undercroft/hooks.d/tell
/undercroft-reseed &
while :; do
    echo "DRAW $(head -c 16 /dev/urandom | {_HEX})"
    echo "HWRNG $(dd if=/dev/hwrng bs=16 count=1 2> /dev/null | {_HEX})"
    usleep 50000
done
"""


def missing() -> str:
    """Return why such a guest cannot be had here, "" when it can."""
    return guests.missing() or reseedhelper.missing()


def boot_files(folder: Path, workload: str = _WORKLOAD) -> guests.BootFiles:
    """Return boot files whose guest runs the small helper and draws."""
    boot = guests.with_workload(guests.boot_files("-channel", channelguest.MODULES), workload, folder)
    root = folder / "root"
    root.mkdir()
    program = Path(shutil.copy(reseedhelper.static(), root))
    boot.initrd.write_bytes(boot.initrd.read_bytes() + guests.archive(root, [program.name]))
    return boot


class ReseedGuest(ChannelGuest):
    """The guest, its monitor, and a host at its channel."""

    def __init__(self, folder: Path, rng: str = RNG, workload: str = _WORKLOAD) -> None:
        super().__init__(folder, rng, boot_files(folder, workload), MEMORY_MIB)

    def load(self, name: str, eid: bytes) -> int:
        """Load a snapshot, as another execution; return how long the console's text is then."""
        self.order("stop")
        self.order(f"loadvm {name}")
        self.host = Host(eid=eid)
        length = len(self.serial.read_bytes())
        self.order("cont")
        return length

    def drawn(self, what: str, length: int, count: int) -> list[str]:
        """Return what was drawn after the console had this length: the first so many."""

        def found() -> list[str] | None:
            text = self.serial.read_bytes()[length:].decode(errors="replace")
            draws = re.findall(rf"^{what} ([0-9a-f]{{32}})\r?$", text, re.MULTILINE)
            return draws[:count] if len(draws) >= count else None

        draws = self.until(found, 120)
        assert isinstance(draws, list)
        return draws
