"""Databases of rpm: made by rpm itself (SQLite), by db_load, and by hand after rpm's source (ndb).

Nothing is installed: rpm is given a database of its own and --justdb.
"""

import sqlite3
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from diskimages import run

Blobs = Sequence[tuple[int, bytes]]

FORMAT = (
    r"%{NAME}\t%|EPOCH?{%{EPOCH}}:{0}|\t%{VERSION}-%{RELEASE}\t%{ARCH}\t%{SOURCERPM}\t"
    r"%|MODULARITYLABEL?{%{MODULARITYLABEL}}:{}|\t%|VENDOR?{%{VENDOR}}:{}|\n"
)
SMALL = 24
"""How many small packages are made beside those with something of their own."""

SPEC = """
Name: alpha
Version: 1.2~rc1
Release: 3.el9
Epoch: 2
Summary: x
Summary(de): Umlaute \u00e4\u00f6\u00fc
License: MIT
Vendor: Nobody at all
BuildArch: noarch
%global debug_package %{nil}
%global _build_id_links none
%description
x
%package -n beta
Summary: y
Epoch: 0
Version: 9^git1
ModularityLabel: nodejs:18:8060020230:abc
%description -n beta
y
%package -n kernel-core
Summary: k
%description -n kernel-core
k
%package -n large
Summary: l
%description -n large
l
SUBPACKAGES
%install
mkdir -p %{buildroot}/opt/app %{buildroot}/lib/modules/5.14.0-1.el9.x86_64 %{buildroot}/usr/share/large
mkdir -p %{buildroot}/usr/lib/python3.9/site-packages/Owned-1.dist-info
touch %{buildroot}/usr/lib/python3.9/site-packages/Owned-1.dist-info/METADATA
echo x > %{buildroot}/opt/app/run
chmod 755 %{buildroot}/opt/app/run
for i in $(seq 300); do : > %{buildroot}/usr/share/large/file-$i-of-a-package-with-many-files; done
%files
/opt/app/run
/usr/lib/python3.9
%files -n beta
%files -n kernel-core
/lib/modules/5.14.0-1.el9.x86_64
%ghost /boot/vmlinuz-5.14.0-1.el9.x86_64
%files -n large
/usr/share/large
"""
_SUBPACKAGE = """%package -n small{0:02}
Summary: s
%description -n small{0:02}
s
%files -n small{0:02}
"""


def make_packages(folder: Path) -> list[Path]:
    """Build the packages of SPEC in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = folder / "alpha.spec"
    spec.write_text(SPEC.replace("SUBPACKAGES", "".join(_SUBPACKAGE.format(n) for n in range(SMALL))))
    run("rpmbuild", "--quiet", "-bb", "--define", f"_topdir {folder}/build", spec)
    return sorted((folder / "build").rglob("*.rpm"))


def install(database: Path, packages: Sequence[Path]) -> Path:
    """Record packages as installed in an rpmdb.sqlite below `database`, and return that file."""
    database.mkdir(parents=True, exist_ok=True)
    run(
        "rpm", "--dbpath", database, "--define", "_db_backend sqlite", "--justdb", "--nodeps", "-i", *packages
    )
    return database / "rpmdb.sqlite"


def remove(database: Path, *names: str) -> None:
    """Erase packages from the database."""
    run("rpm", "--dbpath", database, "--define", "_db_backend sqlite", "--justdb", "--nodeps", "-e", *names)


def asked_of_rpm(database: Path, backend: str = "sqlite") -> list[tuple[str, ...]]:
    """What rpm says is installed, in the fields of FORMAT; public keys too."""
    output = run("rpm", "--dbpath", database, "--define", f"_db_backend {backend}", "-qa", "--qf", FORMAT)
    return sorted(tuple(line.split("\t")) for line in output.splitlines())


def blobs_of(path: Path) -> Blobs:
    """The headers in an rpmdb.sqlite by their numbers."""
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("select hnum, blob from Packages order by hnum").fetchall()
    finally:
        connection.close()
    return [(number, bytes(blob)) for number, blob in rows]


def write_bdb(path: Path, blobs: Blobs, order: str = "<", page_bytes: int = 4096) -> Path:
    """Write a hash of Berkeley DB with these headers, and rpm's counter under key 0."""
    lorder = 1234 if order == "<" else 4321
    rows = [(0, struct.pack(f"{order}I", max(number for number, _ in blobs))), *blobs]
    dump = (
        f"VERSION=3\nformat=bytevalue\ntype=hash\ndb_lorder={lorder}\ndb_pagesize={page_bytes}\nHEADER=END\n"
    )
    dump += "".join(f" {struct.pack(f'{order}I', key).hex()}\n {value.hex()}\n" for key, value in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    run("db5.3_load", path, stdin=dump + "DATA=END\n")
    return path


def ndb_of(blobs: Blobs) -> bytes:
    """Return a Packages.db as rpm's lib/backend/ndb/rpmpkg.c writes it."""
    pages = -(-(len(blobs) + 2) * 16 // 4096)
    unit = pages * 256
    slots, body = b"", b""
    for number, blob in blobs:
        piece = struct.pack("<4s3I", b"BlbS", number, 1_700_000_000, len(blob)) + blob
        piece += bytes(-(len(piece) + 12) % 16)
        piece += struct.pack("<2I4s", zlib.adler32(piece), len(blob), b"BlbE")
        slots += struct.pack("<4s3I", b"Slot", number, unit, len(piece) // 16)
        body += piece
        unit += len(piece) // 16
    head = struct.pack("<4s4I12x", b"RpmP", 0, 1, pages, len(blobs) + 1)
    empty = struct.pack("<4s3I", b"Slot", 0, 0, 0)
    table = head + slots
    return table + empty * ((pages * 4096 - len(table)) // 16) + body


def header_of(tags: Mapping[int, int | str | Sequence[int] | Sequence[str]]) -> bytes:
    """Return a header without a region or a digest, as a database keeps it."""
    index, store = b"", b""
    for tag, value in sorted(tags.items()):
        if isinstance(value, str):
            kind, count, data = 6, 1, value.encode() + b"\0"
        else:
            items = [value] if isinstance(value, int) else list(value)
            count = len(items)
            if all(isinstance(item, int) for item in items):
                kind, data = 4, b"".join(struct.pack(">I", item) for item in items)
                store += bytes(-len(store) % 4)
            else:
                kind, data = 8, b"".join(str(item).encode() + b"\0" for item in items)
        index += struct.pack(">4I", tag, kind, len(store), count)
        store += data
    return struct.pack(">2I", len(index) // 16, len(store)) + index + store
