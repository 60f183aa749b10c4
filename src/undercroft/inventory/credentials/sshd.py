"""Where a machine's sshd looks for keys, by sshd_config(5) and what it includes.

Guarantees: the union of all values is taken, of `Match` blocks too: a superset of what any user gets. A
setting whose meaning is not in the file (a command, an unknown token) is a problem.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from undercroft.disks.text import text
from undercroft.inventory.credentials.finder import Finder

CONFIG = b"/etc/ssh/sshd_config"
INCLUDED = b"/etc/ssh/sshd_config.d"

MAX_CONFIG_BYTES = 1 << 20
MAX_INCLUDED_FILES = 200
MAX_PATTERNS = 50

DEFAULT_KEY_FILES = (b".ssh/authorized_keys", b".ssh/authorized_keys2")


@dataclass(slots=True)
class SshdSettings:
    """Paths as they stand in the settings, with their tokens; each once, in order."""

    key_files: dict[bytes, None] = field(default_factory=dict)
    host_keys: dict[bytes, None] = field(default_factory=dict)
    authorities: dict[bytes, None] = field(default_factory=dict)


def read_settings(finder: Finder) -> SshdSettings:
    """Return what the settings name. Raises for no content."""
    settings = SshdSettings(dict.fromkeys(DEFAULT_KEY_FILES))
    paths = [CONFIG]
    names = finder.names(INCLUDED, MAX_INCLUDED_FILES)
    paths += [INCLUDED + b"/" + name for name in names if name.endswith(b".conf")]
    for path in paths:
        config = finder.read(path, MAX_CONFIG_BYTES) or b""
        for keyword, values in _directives(config):
            _take(settings, keyword, values, text(path), finder)
    return settings


def _take(settings: SshdSettings, keyword: bytes, values: list[bytes], place: str, finder: Finder) -> None:
    wanted = {
        b"authorizedkeysfile": settings.key_files,
        b"hostkey": settings.host_keys,
        b"trustedusercakeys": settings.authorities,
    }.get(keyword)
    if wanted is not None:
        named = [value for value in values if value.lower() != b"none"]
        if len(wanted) + len(named) > MAX_PATTERNS:
            finder.problem(f"{place}: names more than {MAX_PATTERNS} files of keys")
        else:
            wanted.update(dict.fromkeys(named))
    elif keyword in (b"authorizedkeyscommand", b"authorizedprincipalscommand") and values[0] != b"none":
        finder.problem(f"{place}: {text(keyword)} gives keys that stand in no file")
    elif keyword == b"include" and any(not _is_included(value) for value in values):
        finder.problem(f"{place}: includes {text(b' '.join(values))[:80]!r}, which was not read")


def _is_included(value: bytes) -> bool:
    return value in (INCLUDED + b"/*.conf", b"sshd_config.d/*.conf")


def _directives(config: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yield (keyword in lower case, values) of each line that has both; '=' may stand between them."""
    for line in config.split(b"\n"):
        words = line.replace(b"=", b" ", 1).replace(b'"', b" ").split()
        if len(words) > 1 and not words[0].startswith(b"#"):
            yield words[0].lower(), words[1:]


def key_file(pattern: bytes, home: bytes, name: bytes, uid: int) -> bytes | None:
    """Return the file that a pattern means for one account, None for a token that is not known here.

    Source: sshd_config(5), AuthorizedKeysFile and TOKENS: %% %h %u %U; relative paths start at the home.
    """
    tokens = {b"%": b"%", b"h": home, b"u": name, b"U": b"%d" % uid}
    pieces: list[bytes] = []
    position = 0
    while (found := pattern.find(b"%", position)) >= 0:
        value = tokens.get(pattern[found + 1 : found + 2])
        if value is None:
            return None
        pieces += (pattern[position:found], value)
        position = found + 2
    path = b"".join((*pieces, pattern[position:]))
    return path if path.startswith(b"/") else home + b"/" + path
