"""Certificates of the packet filter, signed with the key of the audit log's heads (Ed25519, RFC 8032).

What is signed is `Certificate.statement`, which begins with a domain of its own: a signature of a head is
none of a certificate. A void one is not signed, and none that says nothing of the surroundings.
"""

import hashlib
from dataclasses import replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from undercroft.assurance.auditheads import public_key
from undercroft.assurance.firewall.certificate import Certificate, Standing
from undercroft.errors import StateError

SIGNED = frozenset({Standing.CERTIFIED, Standing.RESERVED})


def sign(private: Ed25519PrivateKey, certificate: Certificate) -> Certificate:
    """Return a certificate with its signature.

    Raises:
        StateError: it is void, or of the table alone.
    """
    if certificate.standing not in SIGNED:
        raise StateError(f"{_name(certificate)}: it is {certificate.standing}: there is nothing to sign")
    named = replace(certificate, key=public_key(private), signature="")
    return replace(named, signature=private.sign(named.statement()).hex())


def check_signature(certificate: Certificate, key: str) -> None:
    """Check that a certificate was signed with a key, and stands.

    Args:
        certificate: untrusted.
        key: the pinned public key in hexadecimal.

    Raises:
        StateError: it was not, or it is void.
    """
    name = _name(certificate)
    if not certificate.signature:
        raise StateError(f"{name}: it is not signed")
    if certificate.key != key:
        raise StateError(f"{name}: signed with the key {certificate.key}, the pinned one is {key}")
    if certificate.standing not in SIGNED:
        raise StateError(f"{name}: it is {certificate.standing}, and proves nothing of the host")
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(bytes.fromhex(certificate.signature), certificate.statement())
    except (InvalidSignature, ValueError) as error:
        raise StateError(f"{name}: its signature is not the key's: it was forged or changed") from error


def digest(certificate: Certificate) -> str:
    """Return SHA-256 in hexadecimal over what is signed, by which the audit log names it."""
    return hashlib.sha256(certificate.statement()).hexdigest()


def _name(certificate: Certificate) -> str:
    return f"certificate of {certificate.proven_at:%Y-%m-%d %H:%M:%S} for generation {certificate.generation}"
