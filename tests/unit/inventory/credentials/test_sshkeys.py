"""Fingerprints are those of ssh-keygen, whatever stands around a key; nothing malformed gets past."""

import base64
from pathlib import Path

import pytest
from diskimages import run
from hypothesis import given
from hypothesis import strategies as st

from undercroft.errors import InputError
from undercroft.inventory.credentials.sshkeys import PRIVATE_KEY, parse_key_line, public_half

KINDS = [("ed25519", ()), ("rsa", ("-b", "2048")), ("ecdsa", ("-b", "256"))]


def make_key(path: Path, kind: str, *options: str, passphrase: str = "") -> Path:
    run("ssh-keygen", "-q", "-t", kind, *options, "-N", passphrase, "-C", "alice@laptop", "-f", path)
    return path


def fingerprint_by_ssh(path: Path) -> str:
    return run("ssh-keygen", "-lf", path).split()[1]


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_public_key_has_the_fingerprint_that_ssh_keygen_prints(
    tmp_path: Path, kind: str, options: tuple[str, ...]
) -> None:
    key = make_key(tmp_path / "key", kind, *options)
    line = (tmp_path / "key.pub").read_bytes()
    found = parse_key_line(line)
    assert found is not None
    assert found.fingerprint == fingerprint_by_ssh(tmp_path / "key.pub")
    assert found.comment == "alice@laptop"
    assert PRIVATE_KEY.search(key.read_bytes())


@pytest.mark.parametrize("passphrase", ["", "correct horse"])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_private_key_shows_its_public_half_also_when_it_is_encrypted(
    tmp_path: Path, kind: str, options: tuple[str, ...], passphrase: str
) -> None:
    key = make_key(tmp_path / "key", kind, *options, passphrase=passphrase)
    found = public_half(key.read_bytes())
    assert found is not None
    assert found.fingerprint == fingerprint_by_ssh(tmp_path / "key.pub")


def test_a_private_key_in_another_format_gives_no_public_half(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key", "rsa", "-b", "2048", "-m", "PEM")
    assert PRIVATE_KEY.search(key.read_bytes())
    assert public_half(key.read_bytes()) is None


@pytest.mark.parametrize(
    ("options", "signs"),
    [
        (b'from="10.0.0.0/8,host name",command="echo \\"a b\\"" ', False),
        (b"no-pty ", False),
        (b'cert-authority,principals="a" ', True),
        (b"", False),
    ],
)
def test_options_with_quotes_and_blanks_are_stepped_over(tmp_path: Path, options: bytes, signs: bool) -> None:
    make_key(tmp_path / "key", "ed25519")
    line = options + (tmp_path / "key.pub").read_bytes()
    (tmp_path / "line").write_bytes(line)
    found = parse_key_line(line)
    assert found is not None
    assert (found.fingerprint, found.signs) == (fingerprint_by_ssh(tmp_path / "line"), signs)


@pytest.mark.parametrize(
    "line",
    [
        b"ssh-ed25519",
        b"ssh-ed25519 !!!!",
        b"ssh-ed25519 AAAA",
        b"not a key at all",
        b'from="unclosed ssh-ed25519 AAAAC3NzaC1lZDI1NTE5',
        b"ssh-rsa " + base64.b64encode(b"\0\0\0\x0bssh-ed25519" + b"\0\0\0\x01x"),
        b"x" * (1 << 20),
    ],
)
def test_what_is_no_key_is_refused(line: bytes) -> None:
    with pytest.raises(InputError):
        parse_key_line(line)


@pytest.mark.parametrize("line", [b"", b"   ", b"# ssh-ed25519 AAAA", b"\t# comment"])
def test_blanks_and_comments_are_no_keys(line: bytes) -> None:
    assert parse_key_line(line) is None


LIKE_LINES = st.lists(
    st.sampled_from(
        [b"ssh-ed25519", b"ssh-rsa", b'"', b"\\", b" ", b"\t", b"#", b"AAAAC3NzaC1lZDI1NTE5", b"=="]
    )
    | st.binary(max_size=20),
    max_size=12,
).map(b"".join)


@given(LIKE_LINES)
def test_any_line_gives_a_key_or_an_input_error(line: bytes) -> None:
    try:
        found = parse_key_line(line)
    except InputError:
        return
    assert found is None or found.fingerprint.startswith("SHA256:")


BLOBS = st.binary(max_size=200).map(
    lambda data: (
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
        + base64.encodebytes(b"openssh-key-v1\0" + data)
        + b"-----END OPENSSH PRIVATE KEY-----\n"
    )
)


@given(BLOBS | st.binary(max_size=200))
def test_any_private_key_gives_a_public_half_or_an_input_error(data: bytes) -> None:
    try:
        public_half(data)
    except InputError:
        return


def test_a_key_file_of_nothing_but_beginnings_is_read_in_one_pass() -> None:
    piece = b"-----BEGIN OPENSSH PRIVATE KEY-----" + b" " * 1000
    assert public_half(piece * 1000) is None
    assert public_half(b"-----BEGIN OPENSSH PRIVATE KEY-----" + b"\n" * (1 << 20)) is None
