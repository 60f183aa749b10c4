import base64
import errno
import os
import resource
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from feedfixtures import Signer, gpg

from undercroft.adapters.apt import verifier_for
from undercroft.adapters.gpgv import SignatureError, SignatureVerifier
from undercroft.advisories.feeds.sources_list import AptSource
from undercroft.errors import InputError, OperationError

TEXT = b"Origin: Debian\nSuite: bookworm\n- a line that starts with a dash\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Signer]]:
    folder = tmp_path_factory.mktemp("keys")
    signers = {
        "archive": Signer.make(folder, "archive"),
        "other": Signer.make(folder, "other"),
        "expired": Signer.make(folder, "expired", expires="1d", created="20200101T000000"),
    }
    yield signers
    for signer in signers.values():
        signer.stop()


@pytest.fixture
def verifier(keys: dict[str, Signer]) -> SignatureVerifier:
    return SignatureVerifier([keys["archive"].keyring])


def test_what_was_signed_comes_out_with_the_key(keys, verifier):
    signed = verifier.clearsigned(keys["archive"].clearsign(TEXT), "InRelease")
    assert signed.text == TEXT
    assert signed.fingerprint == keys["archive"].fingerprint


def test_a_detached_signature_is_verified(keys, verifier):
    signature = keys["archive"].detach(TEXT)
    assert verifier.detached(TEXT, signature, "Release").fingerprint == keys["archive"].fingerprint
    with pytest.raises(SignatureError, match="changed after it was signed"):
        verifier.detached(TEXT + b"x", signature, "Release")


def test_a_changed_text_is_refused(keys, verifier):
    tampered = keys["archive"].clearsign(TEXT).replace(b"bookworm", b"bullseye")
    with pytest.raises(SignatureError, match="changed after it was signed"):
        verifier.clearsigned(tampered, "InRelease")


def test_text_outside_the_signature_is_not_taken_for_signed(keys, verifier):
    message = keys["archive"].clearsign(TEXT)
    for untrusted in (message + b"\nSuite: evil\n", message.replace(b"Hash: ", b"Suite: evil\nHash: ", 1)):
        try:
            text = verifier.clearsigned(untrusted, "InRelease").text
        except SignatureError:
            continue
        assert b"evil" not in text


def test_a_good_signature_by_another_key_is_refused(keys, verifier):
    with pytest.raises(SignatureError, match="a key that no keyring holds"):
        verifier.clearsigned(keys["other"].clearsign(TEXT), "InRelease")


def test_the_other_keys_signature_is_good_where_that_key_is_trusted(keys):
    verifier = SignatureVerifier([keys["other"].keyring])
    assert verifier.clearsigned(keys["other"].clearsign(TEXT), "InRelease").text == TEXT


def test_an_expired_key_does_not_count_although_its_signature_is_valid(keys):
    message = keys["expired"].clearsign(TEXT, "--faked-system-time", "20200101T120000")
    with pytest.raises(SignatureError, match="made with a key that has expired"):
        SignatureVerifier([keys["expired"].keyring]).clearsigned(message, "InRelease")


def test_a_weak_digest_does_not_count(keys, verifier):
    message = keys["archive"].clearsign(TEXT, "--digest-algo", "SHA1", "--allow-weak-digest-algos")
    with pytest.raises(SignatureError):
        verifier.clearsigned(message, "InRelease")


def test_one_of_several_signatures_is_enough_unless_another_is_bad(keys, verifier):
    archive, other = keys["archive"], keys["other"]
    both = _dearmored(archive.detach(TEXT)) + _dearmored(other.detach(TEXT))
    assert verifier.detached(TEXT, both, "Release").fingerprint == archive.fingerprint
    bad = _dearmored(archive.detach(TEXT)) + _dearmored(archive.detach(b"another text"))
    with pytest.raises(SignatureError, match="changed after it was signed"):
        verifier.detached(TEXT, bad, "Release")


def _dearmored(armored: bytes) -> bytes:
    body = armored.split(b"\n\n", 1)[1].split(b"-----END")[0]
    return base64.b64decode(b"".join(line for line in body.split(b"\n") if not line.startswith(b"=")))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        TEXT,
        b"-----BEGIN PGP SIGNED MESSAGE-----\n",
        b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nx\n",
    ],
)
def test_what_is_not_signed_at_all_is_refused(verifier, message):
    with pytest.raises(SignatureError):
        verifier.clearsigned(message, "InRelease")


def test_a_compressed_or_binary_message_is_refused_before_gpgv_unfolds_it(keys, verifier):
    with pytest.raises(SignatureError, match="is not signed"):
        verifier.clearsigned(gpg(keys["archive"].home, "--sign", stdin=TEXT), "InRelease")


def test_every_truncation_of_a_message_is_refused(keys, verifier):
    message = keys["archive"].clearsign(TEXT)
    for length in range(0, len(message) - 40, 40):
        with pytest.raises(SignatureError):
            verifier.clearsigned(message[:length], "InRelease")


def test_signed_by_narrows_the_keys_to_one_fingerprint(keys):
    keyrings = [keys["archive"].keyring, keys["other"].keyring]
    narrowed = SignatureVerifier(keyrings, fingerprints=[keys["archive"].fingerprint])
    assert narrowed.clearsigned(keys["archive"].clearsign(TEXT), "InRelease").text == TEXT
    with pytest.raises(SignatureError, match="signed by another key than the one that Signed-By names"):
        narrowed.clearsigned(keys["other"].clearsign(TEXT), "InRelease")


def test_armored_keyrings_and_key_blocks_in_a_source_are_read(keys, tmp_path):
    armored = tmp_path / "archive.asc"
    armored.write_text(keys["archive"].armored_key())
    block = "\n".join(line or "." for line in keys["archive"].armored_key().splitlines())
    message = keys["archive"].clearsign(TEXT)
    for signed_by in (str(armored), block, f"{armored}, /nowhere.gpg"):
        source = AptSource("https://example.org", "bookworm", ("main",), signed_by=signed_by)
        assert verifier_for(source).clearsigned(message, "InRelease").text == TEXT
        with pytest.raises(SignatureError):
            verifier_for(source).clearsigned(keys["other"].clearsign(TEXT), "InRelease")


def test_a_damaged_keyring_never_lets_anything_pass(keys, tmp_path):
    message = keys["archive"].clearsign(TEXT)
    damaged = tmp_path / "damaged.gpg"
    for content in (b"", b"x" * 100, keys["archive"].keyring.read_bytes()[:40]):
        damaged.write_bytes(content)
        with pytest.raises(InputError):
            SignatureVerifier([damaged]).clearsigned(message, "InRelease")
    damaged.write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!!\n-----END PGP PUBLIC KEY BLOCK-----\n")
    with pytest.raises(InputError, match="a damaged key block"):
        SignatureVerifier([damaged]).clearsigned(message, "InRelease")


def test_without_gpgv_or_keyrings_nothing_passes_and_the_cure_is_named(keys, tmp_path):
    message = keys["archive"].clearsign(TEXT)
    missing = SignatureVerifier([keys["archive"].keyring], program=str(tmp_path / "gpgv"))
    with pytest.raises(OperationError, match="install the package gpgv"):
        missing.clearsigned(message, "InRelease")
    with pytest.raises(OperationError, match="install debian-archive-keyring or ubuntu-keyring"):
        SignatureVerifier([tmp_path / "none.gpg"]).clearsigned(message, "InRelease")


@pytest.mark.parametrize("script", ["exit 0", "kill -9 $$", "echo '[GNUPG:] GOODSIG x'", "yes"])
def test_a_gpgv_that_says_nothing_lets_nothing_pass(keys, tmp_path, script, monkeypatch):
    program = tmp_path / "gpgv"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("undercroft.adapters.gpgv.TIMEOUT_S", 1)
    verifier = SignatureVerifier([keys["archive"].keyring], program=str(program))
    with pytest.raises((SignatureError, OperationError)):
        verifier.clearsigned(keys["archive"].clearsign(TEXT), "InRelease")


VALID = "VALIDSIG {key} 2025-02-14 1739534400 0 4 0 22 {digest} {kind} {key}"


@pytest.mark.parametrize(
    ("lines", "counts"),
    [
        (["GOODSIG 1 archive", VALID.format(key="A" * 40, digest=10, kind="01")], True),
        (["ERRSIG 2 22 10 01", "GOODSIG 1 archive", VALID.format(key="A" * 40, digest=8, kind="00")], True),
        (["REVKEYSIG 1 archive", VALID.format(key="A" * 40, digest=10, kind="01")], False),
        (["EXPKEYSIG 1 archive", VALID.format(key="A" * 40, digest=10, kind="01")], False),
        (["EXPSIG 1 archive", VALID.format(key="A" * 40, digest=10, kind="01")], False),
        (["BADSIG 1 archive", "GOODSIG 1 archive", VALID.format(key="A" * 40, digest=10, kind="01")], False),
        (["GOODSIG 1 archive", "ERRSIG 2", VALID.format(key="A" * 40, digest=10, kind="01")], False),
        (["GOODSIG 1 archive", VALID.format(key="A" * 40, digest=2, kind="01")], False),
        (["GOODSIG 1 archive", VALID.format(key="A" * 40, digest=10, kind="10")], False),
        (["GOODSIG 1 archive", VALID.format(key="short", digest=10, kind="01")], False),
        ([VALID.format(key="A" * 40, digest=10, kind="01")], False),
        (["GOODSIG 1 archive"], False),
    ],
)
def test_only_a_good_signature_with_a_strong_digest_of_a_document_counts(keys, tmp_path, lines, counts):
    program = tmp_path / "gpgv"
    said = "\n".join(f"[GNUPG:] {line}" for line in lines)
    program.write_text(f"#!/bin/sh\ncat >/dev/fd/$6 <<'END'\n{said}\nEND\n")
    program.chmod(0o755)
    verifier = SignatureVerifier([keys["archive"].keyring], program=str(program))
    if counts:
        assert verifier.detached(TEXT, b"signature", "Release").fingerprint == "A" * 40
        return
    with pytest.raises(SignatureError):
        verifier.detached(TEXT, b"signature", "Release")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_full_temporary_folder_is_named_with_the_cure(keys, verifier, temporary):
    message = keys["archive"].clearsign(TEXT)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))  # the kernel refuses to let a file grow further
    try:
        with pytest.raises(OperationError) as refused:
            verifier.clearsigned(message, "InRelease")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    expected = f"InRelease: its signature cannot be verified: {temporary}: {os.strerror(errno.EFBIG)}"
    assert str(refused.value).startswith(expected)
    assert verifier.clearsigned(message, "InRelease").text == TEXT, "without the limit it is verified"


def test_what_a_killed_run_left_is_removed_and_nothing_younger(keys, verifier, temporary):
    old, young, other = (temporary / name for name in ("undercroft-gpgv-a", "undercroft-gpgv-b", "else"))
    for folder in (old, young, other):
        folder.mkdir()
        (folder / "message").touch()
    yesterday = time.time() - 86_400
    os.utime(old, (yesterday, yesterday))
    os.utime(other, (yesterday, yesterday))
    verifier.clearsigned(keys["archive"].clearsign(TEXT), "InRelease")
    assert sorted(temporary.iterdir()) == sorted([young, other])
