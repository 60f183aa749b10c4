"""Feeds of every format, made small: documents, archives, packages, mirrors with real signatures."""

import gzip
import hashlib
import io
import json
import lzma
import shutil
import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from undercroft.advisories.feeds.feed import Feed, FeedInput, Parser
from undercroft.advisories.records import Record
from undercroft.errors import InputError

NOW = datetime(2025, 2, 14, 12, 0, tzinfo=UTC)
DATA = Path(__file__).parents[1] / "data" / "feeds"


def feed_input(data: bytes | str, name: str = "feed", **options: object) -> FeedInput:
    """Return `data` as a parser takes it, at the time `NOW`."""
    content = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return FeedInput(name, io.BytesIO(content), **{"now": NOW} | options)


def document(name: str) -> bytes:
    """Return a file of tests/data/feeds."""
    return (DATA / name).read_bytes()


def edited(name: str, **changes: object) -> bytes:
    """Return a JSON file of tests/data/feeds with top-level members replaced, or removed where None."""
    content = json.loads(document(name)) | changes
    return json.dumps({key: value for key, value in content.items() if value is not None}).encode()


def parsed(parser: Parser, data: bytes | str, **options: object) -> tuple[Feed, list[Record]]:
    """Return the feed in `data` and all of its records."""
    feed = parser(feed_input(data, **options))
    return feed, list(feed.records)


def refusal(parser: Parser, data: bytes | str, **options: object) -> str:
    """Return the message with which `parser` refuses `data`."""
    with pytest.raises(InputError) as caught:
        parsed(parser, data, **options)
    return str(caught.value)


def zipped(documents: Mapping[str, bytes]) -> bytes:
    """Return a zip archive of `documents`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in documents.items():
            archive.writestr(name, content)
    return file.getvalue()


@dataclass
class Signer:
    """A throw-away OpenPGP key in a folder of its own."""

    home: Path
    keyring: Path
    fingerprint: str

    @classmethod
    def make(cls, folder: Path, name: str, expires: str = "0", created: str = "") -> "Signer":
        """Make a key; `expires` and `created` are in gpg's notation."""
        if not shutil.which("gpg") or not shutil.which("gpgv"):
            pytest.skip("needs gpg and gpgv (packages gnupg, gpgv)")
        home = folder / name
        home.mkdir(mode=0o700)
        clock = ["--faked-system-time", created] if created else []
        user = f"{name} <{name}@example.org>"
        gpg(home, *clock, "--quick-generate-key", user, "ed25519", "sign", expires)
        listing = gpg(home, "--with-colons", "--list-keys").decode()
        fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
        keyring = folder / f"{name}.gpg"
        keyring.write_bytes(gpg(home, "--export"))
        return cls(home, keyring, fingerprint)

    def armored_key(self) -> str:
        """Return the public key as text."""
        return gpg(self.home, "--armor", "--export").decode()

    def clearsign(self, text: bytes, *options: str) -> bytes:
        """Return `text` clearsigned."""
        return gpg(self.home, *options, "--clearsign", stdin=text)

    def detach(self, text: bytes) -> bytes:
        """Return an armored detached signature of `text`."""
        return gpg(self.home, "--armor", "--detach-sign", stdin=text)

    def stop(self) -> None:
        """End the agent that gpg started for this key."""
        subprocess.run(
            ["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False, capture_output=True
        )


def gpg(home: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run gpg and return what it writes."""
    command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--yes", "--passphrase", "", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@dataclass(frozen=True)
class Deb:
    """A binary package of a made-up mirror; `content` is the .deb file."""

    package: str
    version: str
    source: str = ""
    architecture: str = "amd64"
    content: bytes = b"no package"

    @property
    def path(self) -> str:
        """Where it lies below the mirror's base."""
        version = self.version.partition(":")[2] or self.version
        return f"pool/main/{self.package[0]}/{self.package}/{self.package}_{version}_{self.architecture}.deb"

    def stanza(self) -> str:
        """Return its part of a Packages file."""
        source = f"Source: {self.source}\n" if self.source else ""
        return (
            f"Package: {self.package}\n{source}Version: {self.version}\nArchitecture: {self.architecture}\n"
            f"Description: made up\n with a second line\nFilename: {self.path}\nSize: {len(self.content)}\n"
            f"SHA256: {hashlib.sha256(self.content).hexdigest()}\n"
        )


@dataclass
class Mirror:
    """A distribution mirror in a folder. Change a field and `write` again to make the next edition."""

    folder: Path
    signer: Signer
    suite: str = "bookworm-security"
    debs: list[Deb] = field(default_factory=list)
    dated_at: datetime = NOW - timedelta(hours=6)
    valid_until: datetime | None = NOW + timedelta(days=7)
    fields: dict[str, str] = field(
        default_factory=lambda: {
            "Origin": "Debian",
            "Label": "Debian-Security",
            "Suite": "stable-security",
            "Version": "12",
            "Codename": "bookworm-security",
        }
    )
    by_hash: bool = True
    inline: bool = True

    @property
    def url(self) -> str:
        """Its address as a local mirror."""
        return self.folder.as_uri()

    @property
    def dists(self) -> Path:
        """The suite's folder."""
        return self.folder / "dists" / self.suite

    def release_text(self, files: Mapping[str, bytes]) -> bytes:
        """Return the Release file for `files`."""
        lines = [f"{name}: {value}" for name, value in self.fields.items()]
        lines.append(f"Date: {format_datetime(self.dated_at)}")
        if self.valid_until:
            lines.append(f"Valid-Until: {format_datetime(self.valid_until)}")
        lines += [f"Acquire-By-Hash: {'yes' if self.by_hash else 'no'}", "Components: main", "SHA256:"]
        lines += [f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}" for name, data in files.items()]
        return ("\n".join(lines) + "\n").encode()

    def index(self) -> bytes:
        """Return the Packages file."""
        return "\n".join(deb.stanza() for deb in self.debs).encode()

    def write(self) -> None:
        """Write packages, indexes and the signed Release."""
        packages = self.index()
        files = {
            "main/binary-amd64/Packages": packages,
            "main/binary-amd64/Packages.gz": gzip.compress(packages, mtime=0),
            "main/binary-amd64/Packages.xz": lzma.compress(packages),
        }
        for deb in self.debs:
            _write(self.folder / deb.path, deb.content)
        for name, data in files.items():
            _write(self.dists / name, data)
            if self.by_hash:
                digest = hashlib.sha256(data).hexdigest()
                _write(self.dists / "main/binary-amd64/by-hash/SHA256" / digest, data)
        self.sign(self.release_text(files))

    def sign(self, release: bytes) -> None:
        """Write `release` with its signature: inside InRelease, or beside it."""
        for name in ("InRelease", "Release", "Release.gpg"):
            (self.dists / name).unlink(missing_ok=True)
        if self.inline:
            _write(self.dists / "InRelease", self.signer.clearsign(release))
        else:
            _write(self.dists / "Release", release)
            _write(self.dists / "Release.gpg", self.signer.detach(release))


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


CHANGELOG = """\
{source} ({version}) bookworm-security; urgency=high

  * Non-maintainer upload by the Security Team.
  * CVE-2025-11111: a buffer overflow in the parser
  * Also fixes CVE-2025-22222 and CVE-2025-11111.

 -- A Maintainer <maintainer@example.org>  Mon, 10 Feb 2025 09:00:00 +0100

{source} (1.0-1) unstable; urgency=medium

  * New upstream release.

 -- A Maintainer <maintainer@example.org>  Sun, 01 Jan 2023 10:00:00 +0000
"""


def changelog_text(source: str, version: str) -> bytes:
    """Return a changelog of two entries, the newer of which names two CVE numbers."""
    return CHANGELOG.format(source=source, version=version).encode()


def build_deb(
    folder: Path,
    package: str,
    files: Mapping[str, bytes],
    links: Iterable[tuple[str, str]] = (),
    compress: str = "xz",
) -> bytes:
    """Return a real .deb, made by dpkg-deb, with `files` (path: content) and symlinks (path, target)."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("needs dpkg-deb (package dpkg)")
    root = folder / f"{package}-root"
    shutil.rmtree(root, ignore_errors=True)
    _write(
        root / "DEBIAN/control",
        f"Package: {package}\nVersion: 1\nArchitecture: all\n"
        "Maintainer: A <a@example.org>\nDescription: x\n".encode(),
    )
    for path, content in files.items():
        _write(root / path, content)
    for path, target in links:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target)
    target = folder / f"{package}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", f"-Z{compress}", "--build", str(root), str(target)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return target.read_bytes()


def deb_with_changelog(folder: Path, package: str, source: str, version: str, compress: str = "xz") -> bytes:
    """Return a real .deb with a Debian changelog."""
    path = f"usr/share/doc/{package}/changelog.Debian.gz"
    return build_deb(
        folder, package, {path: gzip.compress(changelog_text(source, version), mtime=0)}, compress=compress
    )
