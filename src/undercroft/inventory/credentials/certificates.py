"""X.509 certificates in PEM files (RFC 7468), told by the SHA-256 of their DER, as `openssl x509` prints it.

The DER itself is not parsed: what counts is whether two states hold the same certificate.
"""

import binascii
import hashlib
import re
from collections.abc import Iterator

from undercroft.errors import InputError

MAX_CERTIFICATES_IN_FILE = 1000
"""A bundle of authorities has 150."""

_LABEL = re.compile(rb"-----(BEGIN|END) (?:X509 |TRUSTED )?CERTIFICATE-----")
_SEQUENCE = 0x30
_LONG_LENGTH = 0x80


def parse_certificates(untrusted: bytes) -> tuple[str, ...]:
    """Return the fingerprints of the certificates in a file, in order; none where it has none.

    Raises:
        InputError: one of them is no base64, or there are too many.
    """
    found: list[str] = []
    for encoded in _blocks(untrusted):
        if len(found) >= MAX_CERTIFICATES_IN_FILE:
            raise InputError(f"more than {MAX_CERTIFICATES_IN_FILE} certificates")
        try:
            der = binascii.a2b_base64(b"".join(encoded.split()), strict_mode=True)
        except binascii.Error as error:
            raise InputError(f"certificate {len(found) + 1} is no base64: {error}") from error
        found.append(hashlib.sha256(_first_value(der)).hexdigest())
    return tuple(found)


def _blocks(untrusted: bytes) -> Iterator[bytes]:
    """Yield what stands between the labels, in one pass: a beginning without an end costs nothing."""
    begin = -1
    for label in _LABEL.finditer(untrusted):
        if label[1] == b"BEGIN":
            begin = label.end()
        elif begin >= 0:
            yield untrusted[begin : label.start()]
            begin = -1


def _first_value(der: bytes) -> bytes:
    """Return the certificate alone: openssl's TRUSTED CERTIFICATE has its own marks after it."""
    if len(der) < 2 or der[0] != _SEQUENCE:
        return der
    size, header = der[1], 2
    if size & _LONG_LENGTH:
        header += size & ~_LONG_LENGTH
        size = int.from_bytes(der[2:header], "big")
    return der[: header + size] if header + size <= len(der) else der
