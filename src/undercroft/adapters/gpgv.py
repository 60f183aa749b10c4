"""OpenPGP signatures of distributions, verified by gpgv against the keyrings that the host trusts.

Follows GnuPG's doc/DETAILS on the status lines. Fails closed: a text counts as signed only when gpgv
names at least one good signature by a key of the keyrings and not one bad signature. Signatures by keys
that the keyrings lack are passed over (archives sign with several keys and old hosts lack the newest);
expired and revoked keys, expired signatures and weak digests do not count.
"""

import base64
import binascii
import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from undercroft.errors import InputError, OperationError
from undercroft.ports.signatures import Signed

TIMEOUT_S = 60
MAX_SIGNED_BYTES = 32 << 20

CLEARSIGNED = b"-----BEGIN PGP SIGNED MESSAGE-----"

DISTRIBUTION_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg"),
)

_PREFIX = "undercroft-gpgv-"
_ABANDONED_S = 3600.0  # gpgv runs for TIMEOUT_S at most
_ARMORED = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
_STRONG_DIGESTS = {"8", "9", "10"}  # SHA256, SHA384, SHA512: RFC 4880, section 9.4
_DOCUMENT_SIGNATURES = {"00", "01"}  # of a binary document, of a text: RFC 4880, section 5.2.1
_FINGERPRINT = re.compile(r"[0-9A-F]{40,64}")
_VERDICTS = {"GOODSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "BADSIG", "ERRSIG"}
_REASONS = {
    "EXPSIG": "the signature has expired",
    "EXPKEYSIG": "made with a key that has expired",
    "REVKEYSIG": "made with a key that was revoked",
    "BADSIG": "the signature does not fit the text: it was changed after it was signed",
    "ERRSIG": "made with a key that no keyring holds, or that gpgv cannot read",
    "GOODSIG": "made with a digest that is too weak",
}


class SignatureError(InputError):
    """A text is not signed by a key that the host trusts for it."""


class SignatureVerifier:
    """Verifies with gpgv.

    Args:
        keyrings: files of public keys, binary or armored; those that do not exist are passed over.
        key_block: an armored key in place of files, "" for none.
        fingerprints: the only primary or signing keys that count, empty for all of the keyrings.
        program: gpgv's name or path.
    """

    def __init__(
        self,
        keyrings: Sequence[Path],
        *,
        key_block: str = "",
        fingerprints: Iterable[str] = (),
        program: str = "gpgv",
    ) -> None:
        self._keyrings = [path for path in keyrings if path.is_file()]
        self._named = [str(path) for path in keyrings]
        self._key_block = key_block
        self._fingerprints = frozenset(fingerprints)
        self._program = program

    def clearsigned(self, data: bytes, what: str) -> Signed:
        """Return the text inside an untrusted clearsigned message (InRelease): what was signed, no more.

        Raises:
            SignatureError: not rightly signed.
            OperationError: gpgv or the keyrings are missing, or the temporary folder is full.
        """
        if not data.startswith(CLEARSIGNED) or len(data) > MAX_SIGNED_BYTES:
            raise SignatureError(f"{what}: is not signed (it does not start as a clearsigned text)")
        with _workplace(what) as folder:
            message, text = folder / "message", folder / "text"
            message.write_bytes(data)
            fingerprint = self._verify(["--output", str(text), str(message)], folder, what)
            return Signed(text.read_bytes(), fingerprint)

    def detached(self, data: bytes, signature: bytes, what: str) -> Signed:
        """Return `data` if the untrusted detached `signature` (Release.gpg) is of it.

        Raises:
            SignatureError: not rightly signed.
            OperationError: gpgv or the keyrings are missing, or the temporary folder is full.
        """
        if max(len(data), len(signature)) > MAX_SIGNED_BYTES:
            raise SignatureError(f"{what}: larger than the limit of {MAX_SIGNED_BYTES} bytes")
        with _workplace(what) as folder:
            message, signed = folder / "signature", folder / "text"
            message.write_bytes(signature)
            signed.write_bytes(data)
            return Signed(data, self._verify([str(message), str(signed)], folder, what))

    def _verify(self, arguments: list[str], folder: Path, what: str) -> str:
        """Run gpgv and return the fingerprint of a key that counts."""
        if not self._keyrings and not self._key_block:
            raise OperationError(
                f"{what}: none of the keyrings is here ({', '.join(self._named)}); install "
                "debian-archive-keyring or ubuntu-keyring, or give one with --keyring"
            )
        options = [word for path in self._binary_keyrings(folder) for word in ("--keyring", str(path))]
        status_file = folder / "status"
        with status_file.open("wb") as status:
            command = [self._program, "--homedir", str(folder), "--weak-digest", "SHA1", "--status-fd"]
            self._run([*command, str(status.fileno()), *options, *arguments], status.fileno(), what)
        return self._judge(status_file.read_text("utf-8", "replace"), what)

    def _binary_keyrings(self, folder: Path) -> Iterator[Path]:
        """Yield the keyrings, armored ones decoded into `folder`: gpgv reads binary ones only."""
        if self._key_block:
            decoded = folder / "keyring.gpg"
            decoded.write_bytes(_dearmored(self._key_block.encode(), "Signed-By"))
            yield decoded
        for number, path in enumerate(self._keyrings):
            try:
                data = path.read_bytes()
            except OSError as error:
                raise OperationError(f"{path}: the keyring cannot be read: {error}") from error
            if _ARMORED not in data:
                yield path.absolute()
                continue
            decoded = folder / f"keyring-{number}.gpg"
            decoded.write_bytes(_dearmored(data, str(path)))
            yield decoded

    def _run(self, command: list[str], status: int, what: str) -> None:
        """Run gpgv. Its exit code says nothing that the status lines do not: it is not looked at."""
        try:
            with subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(status,),
                start_new_session=True,
                env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            ) as process:
                _await(process)
        except FileNotFoundError as error:
            raise OperationError(
                f"{what}: its signature cannot be verified without gpgv; install the package gpgv"
            ) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OperationError(f"{what}: gpgv failed: {error}") from error

    def _judge(self, status: str, what: str) -> str:
        verdicts = list(_signatures(status))
        if any(verdict == "BADSIG" for verdict, _ in verdicts):
            raise SignatureError(f"{what}: {_REASONS['BADSIG']}")
        for verdict, signature in verdicts:
            if verdict == "GOODSIG" and (fingerprint := self._counting(signature)):
                return fingerprint
        reasons = [_REASONS[verdict] for verdict, _ in verdicts] or ["it has no signature"]
        if self._fingerprints and any(verdict == "GOODSIG" for verdict, _ in verdicts):
            reasons = ["signed by another key than the one that Signed-By names"]
        keys = ", ".join(map(str, self._keyrings)) or "the source's own key"
        raise SignatureError(f"{what}: {'; '.join(dict.fromkeys(reasons))} (trusted: {keys})")

    def _counting(self, signature: list[str]) -> str:
        """Return the primary key's fingerprint of a VALIDSIG line that counts, else ""."""
        if len(signature) < 9 or signature[7] not in _STRONG_DIGESTS:
            return ""
        if signature[8] not in _DOCUMENT_SIGNATURES or not _FINGERPRINT.fullmatch(signature[0]):
            return ""
        primary = signature[9] if len(signature) > 9 else signature[0]
        if self._fingerprints and not self._fingerprints & {primary, signature[0]}:
            return ""
        return primary


@contextlib.contextmanager
def _workplace(what: str) -> Iterator[Path]:
    """Yield a temporary folder, alone to this user. Raises OperationError when the disk fails in it."""
    try:
        _sweep(Path(tempfile.gettempdir()))
        with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
            yield Path(folder)
    except OSError as error:
        place = error.filename or os.environ.get("TMPDIR", "/tmp")  # noqa: S108 - a name in a message
        raise OperationError(
            f"{what}: its signature cannot be verified: {place}: {error.strerror}; "
            "make room there, or name another folder with TMPDIR"
        ) from error


def _sweep(parent: Path) -> None:
    """Remove what this user's killed runs left in `parent`, where others may write: own folders only."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            found = folder.lstat()
            if found.st_uid == os.geteuid() and time.time() - found.st_mtime > _ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)  # does not follow symlinks, by file descriptors


def _signatures(status: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (verdict, arguments of its VALIDSIG line or []) of each signature, from gpgv's status lines.

    A VALIDSIG line follows good signatures, but also those of expired and revoked keys: only together with
    the verdict before it does it mean anything.
    """
    verdict, valid = "", list[str]()
    for line in status.splitlines():
        _, _, rest = line.partition("[GNUPG:] ")
        keyword, *arguments = rest.split(" ")
        if keyword in _VERDICTS:
            if verdict:
                yield verdict, valid
            verdict, valid = keyword, []
        elif keyword == "VALIDSIG" and verdict:
            valid = arguments
    if verdict:
        yield verdict, valid


def _dearmored(data: bytes, what: str) -> bytes:
    """Return the binary keys of armored ones: RFC 4880, section 6.2. The checksum only guards transport."""
    keys = b""
    for block in data.split(_ARMORED)[1:]:
        body = block.partition(b"-----END")[0].replace(b"\r", b"")
        lines = body.partition(b"\n\n")[2].split(b"\n")
        text = b"".join(line.strip() for line in lines if not line.startswith(b"="))
        try:
            keys += base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise InputError(f"{what}: a damaged key block") from error
    return keys


def _await(process: subprocess.Popen[bytes]) -> None:
    """Wait for gpgv within limits. Raises TimeoutExpired, and then it is gone with all that it started.

    The limits are set from outside: code between fork and exec is not safe beside a progress bar's thread.
    """
    try:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2 * MAX_SIGNED_BYTES,) * 2)
        process.wait(TIMEOUT_S)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
