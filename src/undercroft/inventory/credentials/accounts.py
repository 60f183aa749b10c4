"""Accounts by /etc/passwd and /etc/shadow, without the passwords' hashes. Follows passwd(5) and shadow(5)."""

from dataclasses import dataclass

from undercroft.disks.text import text
from undercroft.inventory.credentials.finder import Finder
from undercroft.model.credentials import Account

PASSWD = b"/etc/passwd"
SHADOW = b"/etc/shadow"

MAX_FILE_BYTES = 2 << 20
MAX_ACCOUNTS = 20_000
MAX_FIELD_CHARS = 4096
MAX_NUMBER_DIGITS = 10

NONE, LOCKED, EMPTY, SET, UNKNOWN = "none", "locked", "empty", "set", "unknown"

_SHORTEST_HASH = 13
"""Characters of the oldest kind, crypt(3) with DES; whatever is shorter matches no password."""

_PASSWD_FIELDS = 7
_SHADOW_FIELDS = 3


@dataclass(frozen=True, slots=True)
class Home:
    """An account's folder, as its entry names it; untrusted."""

    owner: str
    uid: int
    path: bytes


@dataclass(frozen=True, slots=True)
class AccountFiles:
    """What the two files say."""

    accounts: tuple[Account, ...]
    homes: tuple[Home, ...]


def read_accounts(finder: Finder) -> AccountFiles:
    """Return the accounts, sorted by name, and their homes in the order of the file."""
    passwd = finder.read(PASSWD, MAX_FILE_BYTES)
    shadow = finder.read(SHADOW, MAX_FILE_BYTES)
    is_known = shadow is not None or finder.is_missing(SHADOW)
    if passwd is None:
        finder.problem(f"{text(PASSWD)} is not there: the accounts are unknown")
        return AccountFiles((), ())
    return parse_accounts(passwd, shadow or b"", finder, shadow_known=is_known)


def parse_accounts(
    untrusted_passwd: bytes, untrusted_shadow: bytes, finder: Finder, *, shadow_known: bool = True
) -> AccountFiles:
    """Return what the two files say; lines that say nothing are problems. Raises for no content."""
    passwords = _passwords(untrusted_shadow)
    accounts: list[Account] = []
    homes: list[Home] = []
    for number, line in enumerate(untrusted_passwd.split(b"\n"), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        if len(accounts) >= MAX_ACCOUNTS:
            finder.problem(f"{text(PASSWD)}: more than {MAX_ACCOUNTS} accounts, the rest was left out")
            break
        fields = line.split(b":")
        uid = _number(fields[2]) if len(fields) >= _PASSWD_FIELDS else -1
        if line.startswith((b"+", b"-")):
            finder.problem(f"{text(PASSWD)}:{number}: accounts come from a directory service as well")
        elif uid < 0 or len(line) > MAX_FIELD_CHARS:
            finder.problem(f"{text(PASSWD)}:{number}: no entry of seven fields with a number as user ID")
        else:
            name = fields[0]
            password, changed_on_day = _password(fields[1], passwords.get(name), shadow_known=shadow_known)
            accounts.append(Account(text(name), uid, text(fields[6]).strip(), password, changed_on_day))
            homes.append(Home(text(name), uid, fields[5]))
    return AccountFiles(
        tuple(sorted(accounts, key=lambda account: (account.name, account.uid))), tuple(homes)
    )


def _passwords(untrusted_shadow: bytes) -> dict[bytes, tuple[bytes, int]]:
    """Return (password field, day of its last change) by account; the first entry counts, as in getspnam."""
    found: dict[bytes, tuple[bytes, int]] = {}
    for line in untrusted_shadow.split(b"\n")[: 2 * MAX_ACCOUNTS]:
        fields = line.split(b":")
        if len(fields) >= _SHADOW_FIELDS:
            found.setdefault(fields[0], (fields[1], _number(fields[2])))
    return found


def _password(field: bytes, entry: tuple[bytes, int] | None, *, shadow_known: bool) -> tuple[str, int]:
    """Return the state of a password, and the day of its last change."""
    if field != b"x":
        return _state(field), -1
    if entry is None:
        return (NONE if shadow_known else UNKNOWN), -1
    return _state(entry[0]), entry[1]


def _state(field: bytes) -> str:
    if not field:
        return EMPTY
    behind = field.lstrip(b"!")
    is_hash = len(behind) >= _SHORTEST_HASH and not behind.startswith(b"*")
    if not is_hash:
        return NONE
    return SET if behind == field else LOCKED


def _number(field: bytes) -> int:
    """Return a decimal number, -1 where it is none."""
    field = field.strip()
    return int(field) if field.isdigit() and len(field) <= MAX_NUMBER_DIGITS else -1
