"""APT's configuration on this host: which mirrors it uses, and which keys it trusts for each."""

import re
from collections.abc import Sequence
from pathlib import Path

from undercroft.adapters.gpgv import DISTRIBUTION_KEYRINGS, SignatureVerifier
from undercroft.advisories.feeds.releases import is_distribution_suite
from undercroft.advisories.feeds.sources_list import AptSource, parse_deb822, parse_one_line
from undercroft.errors import InputError, OperationError

APT_FOLDER = Path("/etc/apt")
MAX_SOURCES_BYTES = 1 << 20

_FINGERPRINT = re.compile(r"([0-9A-Fa-f]{40,64})!?")


def host_sources(folder: Path = APT_FOLDER) -> list[AptSource]:
    """Return the suites of Debian and Ubuntu in sources.list and sources.list.d, as apt orders them.

    Suites whose names neither distribution uses are other software's and are left out.

    Raises:
        InputError: a file is malformed.
        OperationError: a file cannot be read.
    """
    more = folder / "sources.list.d"
    files = [folder / "sources.list", *sorted([*more.glob("*.list"), *more.glob("*.sources")])]
    found = [source for path in files if path.is_file() for source in read_sources(path)]
    return [source for source in found if is_distribution_suite(source.suite)]


def read_sources(path: Path) -> list[AptSource]:
    """Return the mirrors of one file, in deb822 style if its name ends in .sources.

    Raises:
        InputError: it is malformed.
        OperationError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(MAX_SOURCES_BYTES + 1)
    except OSError as error:
        raise OperationError(f"{path}: cannot be read: {error}") from error
    if len(text) > MAX_SOURCES_BYTES:
        raise InputError(f"{path}: larger than the limit of {MAX_SOURCES_BYTES} bytes")
    parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
    return parse(text, str(path))


def verifier_for(source: AptSource, keyrings: Sequence[Path] = ()) -> SignatureVerifier:
    """Return the verifier of a mirror: its Signed-By, else `keyrings`, else the distributions' own.

    `keyrings` given by the user go before Signed-By.
    """
    if keyrings:
        return SignatureVerifier(keyrings)
    if "-----BEGIN" in source.signed_by:
        # deb822 writes the blank line of a key block as a single dot.
        lines = ("" if line == "." else line for line in source.signed_by.splitlines())
        return SignatureVerifier((), key_block="\n".join(lines))
    words = source.signed_by.replace(",", " ").split()
    fingerprints = [match[1].upper() for word in words if (match := _FINGERPRINT.fullmatch(word))]
    paths = [Path(word) for word in words if word.startswith("/")]
    return SignatureVerifier(paths or DISTRIBUTION_KEYRINGS, fingerprints=fingerprints)
