"""Keys for many images, through the real sandbox: which key goes where, and what is kept of what it opens.

`db.img` is encrypted by cryptsetup itself, the others by hand; each has a marker that must not get out.
"""

import json
import os
import shutil
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from diskimages import MIB, run, wrap_gpt
from layers import make_clone, write_to
from luksimages import PASSPHRASE, QUICK_ARGON2, encrypted2, encrypted_qcow2
from luksmaker import Luks1, Luks2
from machineimages import debian_tree, make_filesystem, packages

from undercroft.model.finding import Assessment
from undercroft.model.images import ImageReport
from undercroft.model.inventory import Inventory
from undercroft.model.schema import Json
from undercroft.ports.reader import Reader
from undercroft.store.imagecache import SqliteImageCache
from undercroft.usecases import identity
from undercroft.usecases.assess import unassessed
from undercroft.usecases.images.scanning import FolderScan
from undercroft.usecases.images.walking import walk
from undercroft.usecases.keys import KeyRing
from undercroft.usecases.session import start_reader

NOW = datetime(2026, 11, 26, tzinfo=UTC)
SMALL = ("-t", "ext4", "-O", "^has_journal")
DB_UUID = "0a1b2c3d-0000-4000-8000-00000000d0db"
WEB_UUID = "0a1b2c3d-0000-4000-8000-00000000beef"
WEB_KEY = b"web passphrase 55aa"

pytestmark = pytest.mark.skipif(not shutil.which("cryptsetup"), reason="cryptsetup is not installed")


class Watched:
    """A reader that notes which passphrases its jobs were given, by the image that they were for."""

    sandboxed = True

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.given: dict[str, set[bytes]] = {}
        self.jobs: list[str] = []

    def call(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Json:
        self.jobs.append(job)
        text = json.dumps(arguments)
        for descriptor in descriptors:
            if "undercroft-keys" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
                held = os.pread(descriptor, 1 << 16, 0)
                for path in (
                    name for name in ("db.img", "web.img", "plain.img", "disk.qcow2") if name in text
                ):
                    self.given.setdefault(path, set()).update(
                        secret for secret in (PASSPHRASE, WEB_KEY) if secret in held
                    )
        return self._reader.call(job, arguments, descriptors)

    def stream(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Iterator[bytes]:
        return self._reader.stream(job, arguments, descriptors)

    def close(self) -> None:
        """The module's tests share the sandbox."""


def assess(inventory: Inventory) -> Assessment:
    return replace(unassessed(inventory, "", NOW.date()), problems=())


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Reader]:
    reader = start_reader()
    yield reader
    reader.close()


@pytest.fixture
def reader(sandbox: Reader) -> Watched:
    return Watched(sandbox)


@pytest.fixture(autouse=True)
def a_shorter_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "RACY_NS", 0)


def root(folder: Path, marker: str) -> Path:
    folder.mkdir(parents=True)
    tree = debian_tree(folder / "tree", packages(3, f"1.0-{marker}"), {})
    return make_filesystem(tree, folder / "fs", *SMALL, size_bytes=6 * MIB)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("made")
    folder = tmp_path_factory.mktemp("images")
    options = ("--type", "luks2", "--label", "database", *QUICK_ARGON2)
    volume = encrypted2(root(work / "db", "secretdb"), work / "db.luks", *options)
    run("cryptsetup", "luksUUID", "-q", "--uuid", DB_UUID, volume)
    wrap_gpt(folder / "db.img", [volume])
    web = Luks2(
        plain=root(work / "web", "secretweb").read_bytes(), uuid=WEB_UUID.encode(), passphrase=WEB_KEY
    ).build()
    (work / "web.luks").write_bytes(web + bytes(-len(web) % MIB))
    wrap_gpt(folder / "web.img", [work / "web.luks"])
    wrap_gpt(folder / "plain.img", [root(work / "plain", "open")])
    return folder


@pytest.fixture
def pool(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "pool")
    return tmp_path / "pool"


def scan(
    reader: Reader, folder: Path, keys: Mapping[str, bytes], cache: Path
) -> tuple[dict[str, ImageReport], tuple[str, ...]]:
    """Return the reports by file name, and the keys that were meant for nothing."""
    with closing(SqliteImageCache(str(cache))) as kept, KeyRing() as ring:
        for volume, secret in keys.items():
            ring.add(volume, secret)
        scanning = FolderScan(reader, kept, assess, scanned_at=NOW, sandboxed=True, keys=ring)
        images = list(scanning.images(walk([str(folder)])))
        return {Path(image.path).name: image for image in images}, scanning.unused_keys


def versions(image: ImageReport) -> set[str]:
    found = image.report.states[0].inventory
    return {package.version for package in found.packages} if found else set()


@pytest.mark.parametrize(
    ("db", "web"),
    [
        ("database", WEB_UUID.upper()),
        (f"db.img:{DB_UUID}", "{pool}/web.img:disk0p1"),
        pytest.param(DB_UUID, "web.img:*", marks=pytest.mark.soak),
    ],
)
def test_each_key_opens_the_volume_that_it_is_meant_for(
    reader: Watched, pool: Path, tmp_path: Path, db: str, web: str
) -> None:
    web = web.format(pool=pool)
    found, unused = scan(reader, pool, {db: PASSPHRASE, web: WEB_KEY}, tmp_path / "c/images.db")
    assert {name: versions(image) for name, image in found.items()} == {
        "db.img": {"1.0-secretdb"},
        "web.img": {"1.0-secretweb"},
        "plain.img": {"1.0-open"},
    }
    assert all(image.report.complete for image in found.values())
    assert unused == ()
    assert reader.given == {"db.img": {PASSPHRASE}, "web.img": {WEB_KEY}}


def test_a_key_for_any_volume_goes_to_no_image_that_has_none(
    reader: Watched, pool: Path, tmp_path: Path
) -> None:
    found, unused = scan(reader, pool, {"*": WEB_KEY}, tmp_path / "c/images.db")
    assert versions(found["web.img"]) == {"1.0-secretweb"}
    assert "the key given does not open it" in " ".join(found["db.img"].report.states[0].problems)
    assert "plain.img" not in reader.given
    assert unused == ()


def test_a_key_that_is_meant_for_nothing_is_named(reader: Watched, pool: Path, tmp_path: Path) -> None:
    keys = {
        WEB_UUID: WEB_KEY,
        "no-such-label": PASSPHRASE,
        f"web.img:{DB_UUID}": PASSPHRASE,
        "gone.img:*": PASSPHRASE,
    }
    found, unused = scan(reader, pool, keys, tmp_path / "c/images.db")
    assert unused == ("no-such-label", f"web.img:{DB_UUID}", "gone.img:*")
    assert not found["db.img"].report.complete
    assert reader.given == {"web.img": {WEB_KEY}}


def test_what_a_key_opened_is_not_given_to_a_later_call_without_it(
    reader: Watched, pool: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "c/images.db"
    make_clone(pool / "db.img", pool / "clone.qcow2", base_format="raw")
    before, _ = scan(reader, pool, {}, tmp_path / "c/before.db")
    with_keys, _ = scan(reader, pool, {DB_UUID: PASSPHRASE, WEB_UUID: WEB_KEY}, cache)
    assert versions(with_keys["db.img"]) == versions(with_keys["clone.qcow2"]) == {"1.0-secretdb"}
    after, _ = scan(reader, pool, {}, cache)
    for name in ("db.img", "clone.qcow2", "web.img"):
        assert versions(after[name]) == set()
        assert after[name].report.states[0].inventory == before[name].report.states[0].inventory
        assert not after[name].report.complete
    assert versions(after["plain.img"]) == {"1.0-open"}
    assert after["plain.img"].kept
    again, _ = scan(reader, pool, {DB_UUID: PASSPHRASE, WEB_UUID: WEB_KEY}, cache)
    assert versions(again["db.img"]) == {"1.0-secretdb"}


def test_a_clone_of_an_encrypted_base_needs_no_second_derivation(
    reader: Watched, pool: Path, tmp_path: Path
) -> None:
    for number in range(3):
        make_clone(pool / "db.img", pool / f"clone{number}.qcow2", base_format="raw")
    write_to(pool / "clone2.qcow2", MIB + (12 << 10), b"\xff" * 512)  # into the volume's own header
    keys = {DB_UUID: PASSPHRASE}
    found, _ = scan(reader, pool, keys, tmp_path / "c/images.db")
    for name in ("clone0.qcow2", "clone1.qcow2"):
        assert versions(found[name]) == {"1.0-secretdb"}
        assert found[name].report.states[0].inventory == found["db.img"].report.states[0].inventory
        assert found[name].shared == f"{pool}/db.img"
    assert not found["clone2.qcow2"].shared
    assert "damaged" in str(found["clone2.qcow2"].report)
    assert reader.jobs.count("unlock") == 2


def test_a_clone_that_a_key_is_not_meant_for_stays_closed(
    reader: Watched, pool: Path, tmp_path: Path
) -> None:
    make_clone(pool / "db.img", pool / "clone.qcow2", base_format="raw")
    found, _ = scan(reader, pool, {"db.img:*": PASSPHRASE}, tmp_path / "c/images.db")
    assert versions(found["db.img"]) == {"1.0-secretdb"}
    assert versions(found["clone.qcow2"]) == set()
    assert not found["clone.qcow2"].report.complete


def test_nothing_that_a_key_opened_and_no_key_lies_in_the_cache_s_files(
    reader: Watched, pool: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "c/images.db"
    scan(reader, pool, {DB_UUID: PASSPHRASE, WEB_UUID: WEB_KEY}, cache)
    kept = everything_in(cache)
    assert b"1.0-open" in kept, "the control: what anybody may read is kept"
    for secret in (b"secretdb", b"secretweb", PASSPHRASE, WEB_KEY):
        assert secret not in kept


def everything_in(cache: Path) -> bytes:
    """Return the bytes of the cache's files, and all values that they hold, unpacked."""
    found = b"".join(path.read_bytes() for path in cache.parent.iterdir())
    with closing(sqlite3.connect(cache)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f"SELECT * FROM {table}"):
                found += b"".join(map(_plain, row))
    return found


def _plain(value: object) -> bytes:
    if isinstance(value, bytes):
        return zlib.decompress(value)
    return str(value).encode("utf-8", "backslashreplace")


@pytest.mark.parametrize(
    "name",
    [WEB_UUID, *(pytest.param(name, marks=pytest.mark.soak) for name in ("disk0", "disk.qcow2:*"))],
)
def test_an_encrypted_qcow2_is_opened_by_its_uuid_or_as_the_disk(
    reader: Watched, made: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "pool"
    folder.mkdir()
    encrypted_qcow2(
        made / "plain.img", folder / "disk.qcow2", Luks1(uuid=WEB_UUID.encode(), passphrase=WEB_KEY)
    )
    found, unused = scan(reader, folder, {name: WEB_KEY, "other": PASSPHRASE}, tmp_path / "c/images.db")
    assert versions(found["disk.qcow2"]) == {"1.0-open"}
    assert unused == ("other",)
    assert reader.given == {"disk.qcow2": {WEB_KEY}}
