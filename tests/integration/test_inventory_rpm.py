"""rpm's databases are read as rpm reads them, in each format and after a crash; damage is told."""

import json
import os
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import databasemutants
import pytest
from diskimages import run
from memoryfs import MemoryFileSystem
from memorymachines import File, Link, machine_of, tree_of, uuid_of
from rpmdatabases import Blobs, asked_of_rpm, blobs_of, install, make_packages, ndb_of, remove, write_bdb

from undercroft.inventory.collect import collect
from undercroft.inventory.database import Database
from undercroft.inventory.rpm import read_database
from undercroft.model.inventory import Boot, Kernel, Package

MUTANTS = int(os.environ.get("UNDERCROFT_DATABASE_MUTANTS", "16"))
"""Of each format; `make soak` may ask for more."""

VAR = "var/lib/rpm"
FORMATS = {"sqlite": "rpmdb.sqlite", "ndb": "Packages.db", "bdb": "Packages", "bdb-big-endian": "Packages"}
MOST_WRONG = 0.02


@dataclass(frozen=True)
class Made:
    """One set of packages in a database of each format, and what rpm says of it."""

    folder: Path
    told: list[tuple[str, ...]]
    blobs: Blobs
    packages: list[Path]

    def tree(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("rpm")
    packages = make_packages(folder / "packages")
    path = install(folder / "sqlite" / VAR, packages)
    told = asked_of_rpm(path.parent)
    blobs = blobs_of(path)
    for leftover in ("rpmdb.sqlite-wal", "rpmdb.sqlite-shm", ".rpm.lock"):
        (path.parent / leftover).unlink(missing_ok=True)
    write_bdb(folder / "bdb" / VAR / "Packages", blobs)
    write_bdb(folder / "bdb-big-endian" / VAR / "Packages", blobs, ">", 512)
    (folder / "ndb" / VAR).mkdir(parents=True)
    (folder / "ndb" / VAR / "Packages.db").write_bytes(ndb_of(blobs))
    return Made(folder, told, blobs, packages)


def read_folder(root: Path) -> Database:
    return read_database(tree_of(files_in(root)))


def files_in(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def expected(row: Sequence[str]) -> Package:
    """The package of a line of rpm's, put together apart from the reader's code."""
    name, epoch, version, architecture, source_rpm, label, vendor = row
    prefix = "" if epoch == "0" else f"{epoch}:"
    source = re.match(r"(.*)-([^-]*-[^-]*)\.src\.rpm$", source_rpm)
    assert source is not None
    source_version = (prefix if source[2] == version else "") + source[2]
    module = ":".join(label.split(":")[:2])
    return Package(
        "rpm", name, prefix + version, architecture, source[1], source_version, "installed", vendor, module
    )


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_as_rpm_lists_it(made: Made, name: str) -> None:
    database = read_folder(made.tree(name))
    assert database.problems == ()
    assert list(database.packages) == sorted(
        map(expected, made.told), key=lambda one: (one.name, one.architecture, one.version)
    )
    assert len(database.packages) > 25
    found = {package.name: package for package in database.packages}
    assert (found["beta"].version, found["beta"].module) == ("9^git1-3.el9", "nodejs:18")
    assert (found["alpha"].version, found["alpha"].source_version) == ("2:1.2~rc1-3.el9", "2:1.2~rc1-3.el9")


def test_rpm_itself_reads_the_berkeley_database_alike(made: Made) -> None:
    try:
        told = asked_of_rpm(made.tree("bdb") / VAR, "bdb_ro")
    except AssertionError:
        pytest.skip("needs an rpm that can read Berkeley DB")
    assert told == made.told


@pytest.mark.parametrize("name", FORMATS)
def test_files_in_the_folders_that_are_asked_about_are_owned(made: Made, name: str) -> None:
    metadata = b"/usr/lib/python3.9/site-packages/Owned-1.dist-info/METADATA"
    release = b"5.14.0-1.el9.x86_64"
    kernel = {b"/lib/modules/" + release, b"/boot/vmlinuz-" + release}
    owners = read_folder(made.tree(name)).find_owners({b"/opt/app/run", b"/opt/app/other", metadata, *kernel})
    owned = dict.fromkeys(kernel, "kernel-core")
    assert owners.packages == {b"/opt/app/run": "alpha", metadata: "alpha"} | owned


def test_what_was_removed_and_added_later_is_read_as_rpm_lists_it(made: Made, tmp_path: Path) -> None:
    path = install(tmp_path / VAR, made.packages)
    remove(path.parent, "small03", "large", "alpha", "small17")
    assert [package.name for package in read_folder(tmp_path).packages] == sorted(
        row[0] for row in asked_of_rpm(path.parent)
    )
    install(path.parent, [one for one in made.packages if one.name.startswith("large")])
    names = {package.name for package in read_folder(tmp_path).packages}
    assert "large" in names
    assert "small03" not in names


def with_log(made: Made, folder: Path) -> Path:
    """Leave a log beside a copy, as an rpm does that was killed behind one commit and before another."""
    path = folder / "live/rpmdb.sqlite"
    path.parent.mkdir(parents=True)
    shutil.copy(made.tree("sqlite") / VAR / "rpmdb.sqlite", path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=4")
    connection.execute("DELETE FROM Packages WHERE hnum % 2 = 0")
    connection.execute("BEGIN")
    connection.execute("DELETE FROM Packages WHERE hnum < 8")
    connection.execute("UPDATE Packages SET blob = zeroblob(length(blob)) WHERE hnum > 20")
    target = folder / VAR
    target.mkdir(parents=True)
    for name in ("rpmdb.sqlite", "rpmdb.sqlite-wal"):
        shutil.copy(path.parent / name, target / name)
    connection.close()
    return target / "rpmdb.sqlite"


def test_a_write_ahead_log_is_read_up_to_its_last_commit(made: Made, tmp_path: Path) -> None:
    path = with_log(made, tmp_path)
    database = read_folder(tmp_path)
    assert database.problems == ()
    told = asked_of_rpm(path.parent)
    assert [package.name for package in database.packages] == [row[0] for row in told]
    assert len(told) == sum(number % 2 for number, _ in made.blobs) < len(made.told)


def test_a_log_whose_checksum_breaks_counts_no_further_as_for_sqlite(made: Made, tmp_path: Path) -> None:
    path = with_log(made, tmp_path)
    log = path.with_name("rpmdb.sqlite-wal")
    data = bytearray(log.read_bytes())
    data[32 + 24 + 100] ^= 1
    log.write_bytes(data)
    database = read_folder(tmp_path)
    assert len(database.packages) == len(made.told) == len(asked_of_rpm(path.parent))
    assert "is damaged, and a commit at" in database.problems[0]  # rpm says nothing of it


def test_a_rollback_journal_gives_back_the_pages_of_a_killed_writer(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "live/rpmdb.sqlite"
    path.parent.mkdir(parents=True)
    shutil.copy(made.tree("sqlite") / VAR / "rpmdb.sqlite", path)
    script = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA journal_mode=DELETE'); c.execute('PRAGMA cache_size=2'); c.execute('BEGIN')\n"
        "c.execute('DELETE FROM Packages WHERE hnum > 5')\n"
        "c.execute('UPDATE Packages SET blob = zeroblob(200000)')\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, path], check=True)
    journal = path.with_name("rpmdb.sqlite-journal")
    assert journal.stat().st_size > 512
    files = {f"{VAR}/rpmdb.sqlite": path.read_bytes()}
    assert read_database(tree_of(files)).problems or len(read_database(tree_of(files)).packages) < 6
    database = read_database(tree_of({**files, f"{VAR}/rpmdb.sqlite-journal": journal.read_bytes()}))
    assert database.problems == ()
    assert len(database.packages) == len(made.told) == len(blobs_of(path))


def test_public_keys_are_no_packages(made: Made, tmp_path: Path) -> None:
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ("gpg", "--homedir", home, "--batch", "--quiet")
    run(*gpg, "--passphrase", "", "--quick-gen-key", "somebody@example.org", "rsa2048")
    (tmp_path / "key").write_text(run(*gpg, "--armor", "--export"))
    run("gpgconf", "--homedir", home, "--kill", "all")
    path = install(tmp_path / VAR, made.packages)
    run("rpm", "--dbpath", path.parent, "--define", "_db_backend sqlite", "--import", tmp_path / "key")
    assert any(name.startswith("gpg-pubkey") for name in run("rpm", "--dbpath", path.parent, "-qa").split())
    database = read_folder(tmp_path)
    assert database.problems == ()
    assert len(database.packages) == len(made.told)


def test_a_changed_version_in_a_header_is_told_by_its_digest_and_taken_without_one(made: Made) -> None:
    number, blob = next(item for item in made.blobs if b"9^git1" in item[1])
    forged = blob.replace(b"9^git1", b"9^git2")
    files = {f"{VAR}/Packages.db": ndb_of([(number, forged)])}
    database = read_database(tree_of(files))
    assert database.packages == ()
    assert "its digest is" in database.problems[0]
    bare = forged.replace(struct.pack(">I", 273), struct.pack(">I", 999)).replace(
        struct.pack(">I", 269), struct.pack(">I", 998)
    )
    files = {f"{VAR}/Packages.db": ndb_of([(number, bare)])}
    assert [package.version for package in read_database(tree_of(files)).packages] == ["9^git2-3.el9"]


def test_links_between_the_two_folders_make_one_database(made: Made) -> None:
    content = (made.tree("sqlite") / VAR / "rpmdb.sqlite").read_bytes()
    files: dict[str, bytes | Link] = {"usr/lib/sysimage/rpm/rpmdb.sqlite": content}
    files[VAR] = Link(b"../../usr/lib/sysimage/rpm")
    database = read_database(tree_of(files))
    assert len(database.packages) == len(made.told)
    assert database.problems == ()


def test_an_older_database_beside_the_newer_one_is_told(made: Made) -> None:
    files = files_in(made.tree("sqlite")) | files_in(made.tree("bdb"))
    database = read_database(tree_of(files))
    assert len(database.packages) == len(made.told)
    assert database.problems == (
        "/var/lib/rpm/Packages: a second database beside /var/lib/rpm/rpmdb.sqlite, which was read",
    )


def test_a_machine_of_the_rpm_family_has_kernels_owners_and_a_default_by_the_boot_loaders_entries(
    made: Made,
) -> None:
    release = "5.14.0-1.el9.x86_64"
    entry = f"title x\nversion {release}\nlinux /boot/vmlinuz-{release}\noptions root=UUID={uuid_of(1)}\n"
    ident = "0123456789abcdef0123456789abcdef"
    files: dict[str, bytes | File] = {**files_in(made.tree("sqlite"))}
    files |= {
        "etc/os-release": b'ID="almalinux"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n',
        "etc/fstab": f"UUID={uuid_of(1)} / ext4\n".encode(),
        f"boot/vmlinuz-{release}": b"",
        f"boot/loader/entries/{ident}-0-rescue.conf": entry.replace(release, "0-rescue").encode(),
        f"boot/loader/entries/{ident}-{release}.conf": entry.encode(),
        "boot/grub2/grub.cfg": b'set default="${saved_entry}"\ninsmod blscfg\nblscfg\n',
        "boot/grub2/grubenv": f"# GRUB Environment Block\nsaved_entry={ident}-{release}\n".encode().ljust(
            1024, b"#"
        ),
        f"lib/modules/{release}/modules.dep": b"",
        "opt/app/run": File(b"", 0o755),
        "usr/local/bin/own": File(b"", 0o755),
    }
    found = collect(machine_of(vda=MemoryFileSystem(files, uuid=uuid_of(1))))
    assert found.coverage.complete, found.coverage.problems
    assert found.kernels == (Kernel(release, f"/boot/vmlinuz-{release}", "kernel-core"),)
    assert found.boot == Boot(release, f"/boot/loader/entries/{ident}-{release}.conf")
    assert found.unowned_examples == ("/usr/local/bin/own",)


def mutants_of(manager: str, root: Path, mutated: str, count: int) -> Counter[str]:
    """Judge mutants in a process with limits; none may crash."""
    command = [sys.executable, databasemutants.__file__, manager, str(root), mutated, "0", str(count)]
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
    crashes = {seed: told for seed, told in outcomes.items() if told not in {"same", "refused", "wrong"}}
    assert crashes == {}
    return Counter(outcomes.values())


@pytest.mark.parametrize("name", FORMATS)
def test_mutants_are_read_or_refused_and_hardly_ever_answered_wrongly(made: Made, name: str) -> None:
    counts = mutants_of("rpm", made.tree(name), f"{VAR}/{FORMATS[name]}", MUTANTS)
    assert counts["wrong"] <= max(1, MUTANTS * MOST_WRONG), counts
    assert counts["refused"] > MUTANTS / 4, counts


@pytest.mark.soak
@pytest.mark.parametrize("name", FORMATS)
def test_a_thousand_mutants_of_each_format(made: Made, name: str) -> None:
    counts = mutants_of("rpm", made.tree(name), f"{VAR}/{FORMATS[name]}", 1000)
    assert counts["wrong"] <= 1000 * MOST_WRONG, counts


def test_a_bucket_without_a_page_is_told(made: Made, tmp_path: Path) -> None:
    write_bdb(tmp_path / "Packages", made.blobs)
    content = bytearray((tmp_path / "Packages").read_bytes())
    content[96:100] = bytes(4)  # where the table's first page lies
    problems = read_database(tree_of({f"{VAR}/Packages": bytes(content)})).problems
    assert any("the page of bucket 0 is the file's first one" in problem for problem in problems)


def test_blobs_that_overlap_are_refused(made: Made) -> None:
    """A slot costs 16 bytes: thousands of them could name one long blob."""
    content = bytearray(ndb_of(made.blobs[:20]))
    for slot in range(3, 22):
        content[slot * 16 + 8 : slot * 16 + 16] = content[2 * 16 + 8 : 2 * 16 + 16]
    problems = read_database(tree_of({f"{VAR}/Packages.db": bytes(content)})).problems
    assert any("is not" in problem or "are not a package's" in problem for problem in problems)
    large = sorted(made.blobs, key=lambda blob: -len(blob[1]))[:1] + list(made.blobs[:20])
    content = bytearray(ndb_of(large))
    for slot in range(3, 23):
        content[slot * 16 + 8 : slot * 16 + 16] = content[2 * 16 + 8 : 2 * 16 + 16]
    problems = read_database(tree_of({f"{VAR}/Packages.db": bytes(content)})).problems
    assert "the blobs of its slots are longer than the file: they overlap" in problems[-1]


@pytest.mark.parametrize("delay_s", [0.03, 0.06, 0.1, 0.15])
def test_what_an_rpm_that_was_killed_left_behind_is_read_as_rpm_reads_it(
    made: Made, tmp_path: Path, delay_s: float
) -> None:
    """Whenever it dies: what was committed is there, and what was not is not."""
    path = install(tmp_path / "live", made.packages[:3])
    command = ["rpm", "--dbpath", path.parent, "--define", "_db_backend sqlite", "--justdb", "--nodeps", "-i"]
    with subprocess.Popen([*command, *made.packages[3:]], stderr=subprocess.DEVNULL) as process:
        with suppress(subprocess.TimeoutExpired):
            process.wait(delay_s)
        process.kill()
    target = tmp_path / VAR
    target.mkdir(parents=True)
    for name in ("rpmdb.sqlite", "rpmdb.sqlite-wal", "rpmdb.sqlite-journal"):
        if (path.parent / name).exists():
            shutil.copy(path.parent / name, target / name)
    database = read_folder(tmp_path)
    assert database.problems == ()
    assert [package.name for package in database.packages] == [row[0] for row in asked_of_rpm(path.parent)]
    assert len(database.packages) >= 3
