"""States of a machine, patched and not, and the advisories that tell them apart."""

import uuid
from datetime import UTC, date, datetime
from pathlib import Path

import advisorydata
from machineimages import DebPackage, debian_tree, make_filesystem

from undercroft.advisories.records import KnownExploited, Status
from undercroft.store.database import AdvisoryDatabase

OLD, NEW = "3.0.14-1~deb12u2", "3.0.15-1~deb12u1"
CVE = "CVE-2024-5535"

_PASSWD = b"root:x:0:0:root:/root:/bin/bash\n"
_SHADOW = b"root:*:19000:0:99999:7:::\n"


def mac_of(name: str) -> str:
    """Return a machine's address."""
    tail = uuid.uuid5(uuid.NAMESPACE_DNS, name).hex[:6]
    return f"52:54:00:{tail[:2]}:{tail[2:4]}:{tail[4:]}"


def filesystem(folder: Path, name: str, version: str, files: dict[str, bytes] | None = None) -> Path:
    """Make the filesystem of one state of a machine, with openssl in that version."""
    tree = debian_tree(
        folder / name,
        [DebPackage("libssl3", version, "openssl"), DebPackage("openssl", version)],
        {"etc/passwd": _PASSWD, "etc/shadow": _SHADOW, **(files or {})},
    )
    (tree / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    return make_filesystem(tree, folder / f"{name}.fs")


def write_advisories(path: Path, *, fixed_on: date = date(2024, 7, 1), known_exploited: bool = True) -> None:
    """Write an advisory database in which the old openssl has a hole that is known to be exploited."""
    now = datetime.now(UTC)
    tracker = advisorydata.header("debian-tracker", complete=True, published_at=now)
    dsa = advisorydata.header("debian-dsa", published_at=now)
    mirror = advisorydata.header("mirror:debian:12:bookworm-security", published_at=now)
    kev = advisorydata.header("kev", (), published_at=now)
    fixed = advisorydata.statement(tracker, "openssl", CVE, NEW)
    dated = advisorydata.statement(dsa, "openssl", CVE, NEW, published_on=fixed_on)
    other = advisorydata.statement(tracker, "bash", "CVE-1", status=Status.NOT_AFFECTED)
    listed = [advisorydata.listed(name, NEW, "openssl") for name in ("libssl3", "openssl")]
    exploited = [KnownExploited(CVE, date(2024, 7, 2))] if known_exploited else []
    with AdvisoryDatabase(path, writable=True) as database:
        database.replace_feed(tracker, [fixed, other], now)
        database.replace_feed(dsa, [dated], now)
        database.replace_feed(mirror, listed, now)
        database.replace_feed(kev, exploited, now)
