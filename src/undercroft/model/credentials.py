"""Who may get into a machine and with what: read from its files, without any secret in it.

Texts come from the guest and are untrusted. Fingerprints are "SHA256:" and base64 without padding, as
ssh-keygen prints them; digests of secrets are never stored in a form that lets a guess be checked.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Account:
    """One account.

    Attributes:
        name: login name.
        uid: numeric.
        shell: login shell.
        password: "none", "locked", "empty" or "set"; "unknown" where the file could not be read.
        changed_on_day: days since the epoch at the last change of the password, -1 where it is not recorded.
    """

    name: str
    uid: int
    shell: str
    password: str
    changed_on_day: int


@dataclass(frozen=True, slots=True)
class Key:
    """One public key: who it lets in, or what it proves.

    Attributes:
        role: "authorized" (may log in), "host" (the machine's own), "user" (a user's own), "ca" (signs).
        owner: account, "" for the machine's.
        kind: "ssh-ed25519", ...
        fingerprint: of the public part.
        path: the file in the guest.
        comment: untrusted.
    """

    role: str
    owner: str
    kind: str
    fingerprint: str
    path: str
    comment: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """One X.509 certificate outside the bundle of authorities; the SHA-256 of its DER in hexadecimal."""

    path: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Secret:
    """A file that holds a private key, a token or a password: where and of what kind, never what."""

    path: str
    kind: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one state of one machine holds.

    Attributes:
        accounts: sorted by name.
        keys: sorted by role, owner and fingerprint.
        certificates: sorted by path.
        secrets: sorted by path.
        problems: what could not be read, and limits that were reached. Not empty: something may be missing.
    """

    accounts: tuple[Account, ...] = ()
    keys: tuple[Key, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    secrets: tuple[Secret, ...] = ()
    problems: tuple[str, ...] = ()
