"""Certificates have the fingerprint that openssl prints."""

from pathlib import Path

import pytest
from diskimages import run
from hypothesis import given
from hypothesis import strategies as st

from undercroft.errors import InputError
from undercroft.inventory.credentials.certificates import MAX_CERTIFICATES_IN_FILE, parse_certificates


def make_certificate(path: Path, name: str) -> Path:
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", f"/CN={name}.example.org", "-days", "30", "-keyout", path.with_suffix(".key"), "-out", path,
    )  # fmt: skip
    return path


def fingerprint_by_openssl(path: Path) -> str:
    printed = run("openssl", "x509", "-in", path, "-noout", "-fingerprint", "-sha256")
    return printed.strip().split("=")[1].replace(":", "").lower()


def test_each_certificate_of_a_chain_has_the_fingerprint_that_openssl_prints(tmp_path: Path) -> None:
    first, second = make_certificate(tmp_path / "a.pem", "a"), make_certificate(tmp_path / "b.pem", "b")
    chain = b"some text\n" + first.read_bytes() + b"more\r\n" + second.read_bytes()
    assert parse_certificates(chain) == (fingerprint_by_openssl(first), fingerprint_by_openssl(second))


def test_a_trusted_certificate_is_told_by_the_certificate_alone(tmp_path: Path) -> None:
    plain = make_certificate(tmp_path / "a.pem", "a")
    trusted = tmp_path / "trusted.pem"
    run("openssl", "x509", "-in", plain, "-trustout", "-addtrust", "serverAuth", "-out", trusted)
    assert b"TRUSTED" in trusted.read_bytes()
    assert parse_certificates(trusted.read_bytes()) == (fingerprint_by_openssl(plain),)


def test_a_private_key_alone_is_no_certificate(tmp_path: Path) -> None:
    make_certificate(tmp_path / "a.pem", "a")
    assert parse_certificates((tmp_path / "a.key").read_bytes()) == ()


def test_what_is_no_base64_and_too_many_are_refused() -> None:
    block = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n"
    with pytest.raises(InputError, match="no base64"):
        parse_certificates(block % b"!!!!")
    with pytest.raises(InputError, match="more than"):
        parse_certificates(block % b"AAAA" * (MAX_CERTIFICATES_IN_FILE + 1))


def test_beginnings_without_ends_are_read_in_one_pass() -> None:
    assert parse_certificates(b"-----BEGIN CERTIFICATE-----\n" * 40_000) == ()


PARTS = st.sampled_from(
    [
        b"-----BEGIN CERTIFICATE-----",
        b"-----END CERTIFICATE-----",
        b"MIIB",
        b"\n",
        b"0",
        b"-----BEGIN TRUSTED ",
    ]
)


@given(st.lists(PARTS | st.binary(max_size=10), max_size=20).map(b"".join))
def test_any_file_gives_fingerprints_or_an_input_error(data: bytes) -> None:
    try:
        found = parse_certificates(data)
    except InputError:
        return
    assert all(len(fingerprint) == 64 for fingerprint in found)
