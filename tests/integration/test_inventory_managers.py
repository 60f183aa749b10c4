"""The databases of pacman, apk and FreeBSD's pkg, as the native program lists them where there is one."""

import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import databasemutants
import pytest
from diskimages import run
from memorymachines import Broken, tree_of

from undercroft.inventory import apk, freebsdpkg, pacman
from undercroft.inventory.database import MAX_PROBLEMS, Database
from undercroft.model.inventory import Package

MUTANTS = int(os.environ.get("UNDERCROFT_DATABASE_MUTANTS", "16"))
"""Of each format; `make soak` may ask for more."""

LOCAL = "var/lib/pacman/local"
APK = "lib/apk/db/installed"
PKG = "var/db/pkg/local.sqlite"


def files_in(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def build_for_pacman(folder: Path, name: str, version: str, base: str, architecture: str) -> Path:
    """Make a package as makepkg does: a tar file with .PKGINFO."""
    info = f"pkgname = {name}\npkgbase = {base}\npkgver = {version}\n"
    info += f"pkgdesc = x\nsize = 1\narch = {architecture}\n"
    path = folder / f"{name}.pkg.tar"
    with tarfile.open(path, "w") as archive:
        for member, content in ((".PKGINFO", info.encode()), (f"opt/{name}/run", b"x")):
            entry = tarfile.TarInfo(member)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return path


PACMAN_PACKAGES = (
    ("linux", "6.9.7.arch1-1", "linux", "x86_64"),
    ("gcc-libs", "1:14.1.1+r58+gfc9fb69ad62-1", "gcc", "x86_64"),
    ("a-name-with-1-number", "2-3", "a-name-with-1-number", "any"),
)


@pytest.fixture(scope="module")
def arch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder with pacman's database, made by pacman."""
    folder = tmp_path_factory.mktemp("pacman")
    root = folder / "root"
    (root / "var/lib/pacman").mkdir(parents=True)
    (folder / "conf").write_text("[options]\nArchitecture = x86_64\nSigLevel = Never\n")
    packages = [build_for_pacman(folder, *each) for each in PACMAN_PACKAGES]
    options = ("--root", root, "--config", folder / "conf", "--noconfirm", "--noscriptlet", "-dd")
    run("pacman", *options, "-U", *packages)
    return root


def test_pacmans_database_is_read_as_pacman_lists_it(arch: Path, tmp_path: Path) -> None:
    database = pacman.read_database(tree_of(files_in(arch)))
    (tmp_path / "conf").write_text("[options]\nArchitecture = x86_64\n")
    told = run("pacman", "--root", arch, "--config", tmp_path / "conf", "-Q").splitlines()
    assert [f"{package.name} {package.version}" for package in database.packages] == sorted(told)
    assert {(one.name, one.version, one.source, one.architecture) for one in database.packages} == {
        *PACMAN_PACKAGES
    }
    assert database.problems == ()
    owners = database.find_owners({b"/opt/linux/run", b"/opt/gcc-libs/run", b"/opt/other"})
    assert owners.packages == {b"/opt/linux/run": "linux", b"/opt/gcc-libs/run": "gcc-libs"}


@pytest.mark.parametrize(
    ("path", "content", "problem"),
    [
        ("x-1-1/desc", b"%NAME%\ny\n\n%VERSION%\n1-1\n", "pacman: desc speaks of 'y' '1-1'"),
        ("x-1-1/desc", b"%NAME%\nx\n\n", "pacman: desc speaks of 'x' ''"),
        ("x-1-1/files", b"", "/var/lib/pacman/local/x-1-1/desc: no such file, desc is missing"),
        ("x-1-1/desc", Broken(), "checksum"),
        ("ALPM_DB_VERSION", b"10\n", "pacman's format '10' is not supported"),
    ],
)
def test_what_pacmans_database_hides_is_told(path: str, content: bytes | Broken, problem: str) -> None:
    good = {f"{LOCAL}/a-1-1/desc": b"%NAME%\na\n\n%VERSION%\n1-1\n\n%ARCH%\nany\n\n"}
    database = pacman.read_database(tree_of({**good, f"{LOCAL}/{path}": content}))
    assert [package.name for package in database.packages] == ["a"]
    assert problem in database.problems[0]


def test_lists_of_files_that_cannot_be_read_are_told_a_few_times_and_counted() -> None:
    files: dict[str | bytes, bytes | Broken] = {}
    for number in range(50):
        files[f"{LOCAL}/p{number}-1-1/desc"] = b"%%NAME%%\np%d\n\n%%VERSION%%\n1-1\n\n" % number
        files[f"{LOCAL}/p{number}-1-1/files"] = Broken()
    owners = pacman.read_database(tree_of(files)).find_owners({b"/opt/x"})
    assert len(owners.problems) == MAX_PROBLEMS + 1
    assert owners.problems[-1] == f"pacman: {50 - MAX_PROBLEMS} more problems of this kind"


INSTALLED = b"""C:Q1abc=
P:alpine-baselayout-data
V:3.4.3-r2
A:x86_64
S:11664
T:Alpine base dir structure and init scripts
o:alpine-baselayout
m:Natanael Copa <ncopa@alpinelinux.org>
F:etc
R:fstab
Z:Q1abc=
F:opt/tool
R:run
a:0:0:755
Z:Q1abc=

C:Q1def=
P:ssl_client
V:1.36.1-r15
A:x86_64
o:busybox
F:lib/modules/6.6.7-0-lts

P:.virtual
V:20240101.000000
A:noarch

"""


def test_apks_list_is_read_with_origins_and_owners() -> None:
    database = apk.read_database(tree_of({APK: INSTALLED}))
    assert database == Database(
        True,
        (
            Package("apk", ".virtual", "20240101.000000", "noarch", ".virtual", "20240101.000000"),
            Package("apk", "alpine-baselayout-data", "3.4.3-r2", "x86_64", "alpine-baselayout", "3.4.3-r2"),
            Package("apk", "ssl_client", "1.36.1-r15", "x86_64", "busybox", "1.36.1-r15"),
        ),
    )
    owners = database.find_owners({b"/opt/tool/run", b"/opt/tool/x", b"/lib/modules/6.6.7-0-lts"})
    assert owners.packages == {
        b"/opt/tool/run": "alpine-baselayout-data",
        b"/lib/modules/6.6.7-0-lts": "ssl_client",
    }


def test_a_real_machines_packages_come_out_of_apks_format(shared_data: Path) -> None:
    machine = json.loads((shared_data / "machines/alpine_319.json").read_text())
    origin = {
        name: source["name"] for source in machine["SrcPackages"].values() for name in source["binaryNames"]
    }
    text = "".join(
        f"C:Q1=\nP:{one['name']}\nV:{one['version']}\nA:{one['arch']}\no:{origin[one['name']]}\n\n"
        for one in machine["packages"].values()
    )
    database = apk.read_database(tree_of({"usr/lib/apk/db/installed": text.encode()}))
    assert database.problems == ()
    assert {(one.name, one.version, one.source) for one in database.packages} == {
        (one["name"], one["version"], origin[one["name"]]) for one in machine["packages"].values()
    }
    assert len(database.packages) == 18


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (INSTALLED[:-1], "the end lacks apk's blank line, the file may be cut off"),
        (
            INSTALLED.replace(b"V:1.36.1-r15\n", b""),
            "line 17: a package without a version was left out",
        ),
        (INSTALLED.replace(b"P:ssl_client\n", b""), "line 17: a package without a name was left out: ''"),
        (INSTALLED.replace(b"o:busybox", b"\0:busybox"), "line 17: ssl_client: the line '\\x00:busybox'"),
        (INSTALLED.replace(b"-r15\n", b"-r15\nP:x\n"), "line 17: ssl_client: 2 names in one package"),
        (
            INSTALLED.replace(b"V:1.36.1-r15", b"V:" + b"1" * 2000),
            "line 17: 'ssl_client': name, version or architecture are longer than any",
        ),
        (b"ADB.xxxx", "a database in the binary format is not supported"),
        (Broken(), "could not be read"),
    ],
)
def test_what_apks_list_hides_is_told(content: bytes | Broken, problem: str) -> None:
    database = apk.read_database(tree_of({APK: content}))
    assert database.found
    assert problem in database.problems[0]


def freebsd(path: Path, rows: int = 60) -> Path:
    """A database of pkg's as FreeBSD 14 lays it out, without the columns that nobody asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE packages (id INTEGER PRIMARY KEY, origin TEXT NOT NULL, name TEXT NOT NULL,"
        "version TEXT NOT NULL, comment TEXT NOT NULL, desc TEXT NOT NULL,"
        "mtree_id INTEGER, message TEXT, arch TEXT NOT NULL, maintainer TEXT NOT NULL,"
        "www TEXT, prefix TEXT NOT NULL, flatsize INTEGER NOT NULL, CHECK (flatsize >= 0, 1));"
        "CREATE TABLE files (path TEXT PRIMARY KEY, sha256 TEXT, package_id INTEGER REFERENCES packages(id));"
        "ALTER TABLE packages ADD COLUMN vital INTEGER NOT NULL DEFAULT 0;".replace(
            "CHECK (flatsize >= 0, 1)", "UNIQUE(name, version)"
        )
    )
    for number in range(rows):
        values = (f"ports/p{number}", f"p{number}", f"1.{number}_1,1", "x" * 100, "d" * number * 300)
        connection.execute(
            "INSERT INTO packages (origin, name, version, comment, desc, arch, maintainer, prefix, flatsize)"
            "VALUES (?, ?, ?, ?, ?, 'FreeBSD:14:amd64', 'm', '/usr/local', 5000000000)",
            values,
        )
        connection.execute("INSERT INTO files VALUES (?, '1', ?)", (f"/usr/local/bin/p{number}", number + 1))
    connection.execute("DELETE FROM packages WHERE name = 'p7'")
    connection.commit()
    connection.close()
    return path


def test_freebsds_packages_are_those_of_its_table(tmp_path: Path) -> None:
    path = freebsd(tmp_path / PKG)
    database = freebsdpkg.read_database(tree_of(files_in(tmp_path)))
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, version, arch, origin FROM packages").fetchall()
    connection.close()
    assert list(database.packages) == [
        Package("pkg", name, version, arch, origin, version) for name, version, arch, origin in sorted(rows)
    ]
    assert len(rows) == 59
    owners = database.find_owners({b"/usr/local/bin/p3", b"/usr/local/bin/p7", b"/usr/local/bin/own"})
    assert owners.packages == {b"/usr/local/bin/p3": "p3"}


def test_more_rows_than_ports_exist_are_left_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freebsdpkg, "MAX_PACKAGES", 10)
    freebsd(tmp_path / PKG)
    database = freebsdpkg.read_database(tree_of(files_in(tmp_path)))
    assert len(database.packages) == 10
    assert "more than 10 packages, the rest was not read" in database.problems[0]


def made(manager: str, folder: Path) -> str:
    """Make a database for mutants, and return the file that is damaged."""
    if manager == "pkg":
        freebsd(folder / PKG)
        return PKG
    if manager == "apk":
        (folder / APK).parent.mkdir(parents=True)
        (folder / APK).write_bytes(INSTALLED)
        return APK
    for number in range(5):
        desc = folder / LOCAL / f"package{number}-1.{number}-1" / "desc"
        desc.parent.mkdir(parents=True)
        desc.write_text(
            f"%NAME%\npackage{number}\n\n%VERSION%\n1.{number}-1\n\n%BASE%\nbase\n\n%DESC%\nx\n\n%ARCH%\nany\n\n"
        )
    return f"{LOCAL}/package2-1.2-1/desc"


@pytest.mark.parametrize("manager", ["pkg", "apk", "pacman"])
def test_mutants_are_read_or_refused(manager: str, tmp_path: Path) -> None:
    """Texts without checksums cannot tell another letter from damage: only crashes and hangs are failures."""
    mutated = made(manager, tmp_path)
    command = [sys.executable, databasemutants.__file__, manager, str(tmp_path), mutated, "0", str(MUTANTS)]
    path = os.pathsep.join([str(Path(databasemutants.__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=1000,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert {told for told in outcomes.values() if told not in {"same", "refused", "wrong"}} == set()
    assert Counter(outcomes.values())["wrong"] <= 0.8 * MUTANTS


@pytest.mark.soak
@pytest.mark.parametrize("manager", ["pkg", "apk", "pacman"])
def test_a_thousand_mutants(manager: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "MUTANTS", 1000)
    test_mutants_are_read_or_refused(manager, tmp_path)
