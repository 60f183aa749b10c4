"""The credentials of one state, put together from the parts. Bounded in all that a guest may multiply."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from undercroft.disks.machine import Machine
from undercroft.disks.softwarepaths import below
from undercroft.disks.text import raw, text
from undercroft.disks.tree import WalkLimits
from undercroft.errors import InputError
from undercroft.inventory.credentials import places
from undercroft.inventory.credentials.accounts import Home, read_accounts
from undercroft.inventory.credentials.certificates import parse_certificates
from undercroft.inventory.credentials.finder import Finder
from undercroft.inventory.credentials.sshd import SshdSettings, key_file, read_settings
from undercroft.inventory.credentials.sshkeys import PRIVATE_KEY, PublicKey, parse_key_line, public_half
from undercroft.model.credentials import Certificate, Credentials, Key, Secret

MAX_HOMES = 1000
MAX_PATH_BYTES = 1024
MAX_SSH_FILES = 200
MAX_KEYS_FILE_BYTES = 1 << 20
MAX_KEYS = 20_000
MAX_PEM_BYTES = 1 << 20
MAX_CERTIFICATES = 10_000
MAX_SECRETS = 10_000
MAX_NEEDLE_FILE_BYTES = 1 << 20
MAX_FOLDER_FILES = 1000
WALK_LIMITS = WalkLimits(entries=20_000, depth=16)

SSH_FOLDER = b"/etc/ssh"
SYSTEM_KEYS = b"/etc/ssh/authorized_keys"
HOST_KEY_START, HOST_KEY_END = b"ssh_host_", b"_key"
_NO_HOMES = frozenset({b"", b"/", b"/nonexistent", b"/dev/null", b"/proc", b"/sys"})


@dataclass(slots=True)
class _Found:
    """What came together so far; a dictionary in place of a set, for its order."""

    finder: Finder
    keys: dict[Key, None] = field(default_factory=dict)
    certificates: dict[Certificate, None] = field(default_factory=dict)
    secrets: dict[Secret, None] = field(default_factory=dict)

    def key(self, role: str, owner: str, public: PublicKey, path: bytes) -> None:
        """Take over a key, within the limit."""
        if len(self.keys) >= MAX_KEYS:
            self.finder.problem(f"more than {MAX_KEYS} keys, the rest was left out")
            return
        role = "ca" if public.signs else role
        self.keys[Key(role, owner, public.kind, public.fingerprint, text(path), public.comment)] = None

    def secret(self, path: bytes, kind: str) -> None:
        """Take over the place of a secret, within the limit."""
        if len(self.secrets) >= MAX_SECRETS:
            self.finder.problem(f"more than {MAX_SECRETS} secrets, the rest was left out")
            return
        self.secrets[Secret(text(path), kind)] = None


def read_credentials(machine: Machine) -> Credentials:
    """Return the credentials of a machine; nothing and a problem where it has no readable root."""
    if machine.tree is None:
        return Credentials(problems=machine.coverage.problems or ("no root filesystem was found",))
    finder = Finder(machine.tree)
    found = _Found(finder)
    files = read_accounts(finder)
    settings = read_settings(finder)
    homes = list(_homes(files.homes, finder))
    for home in homes:
        _read_home(home, settings, found)
    for path in _listed(finder, SYSTEM_KEYS):
        _read_lines("authorized", text(path.rpartition(b"/")[2]), path, found)
    for path in settings.authorities:
        _read_lines("ca", "", path, found)
    _read_host_keys(settings, found)
    _read_certificates(found)
    _read_system_secrets(found)
    return Credentials(
        accounts=files.accounts,
        keys=tuple(sorted(found.keys, key=lambda key: (key.role, key.owner, key.fingerprint, key.path))),
        certificates=tuple(sorted(found.certificates, key=lambda each: (each.path, each.fingerprint))),
        secrets=tuple(sorted(found.secrets, key=lambda secret: (secret.path, secret.kind))),
        problems=(*_unread(machine, homes), *finder.problems),
    )


def _unread(machine: Machine, homes: Sequence[Home]) -> Iterator[str]:
    """Yield the mounts that were not read and may hold what is looked for."""
    wanted = [b"/etc", b"/usr", b"/var", *(home.path for home in homes)]
    for point in dict.fromkeys(machine.unread):
        if any(below(path, (point,)) or below(point, (path,)) for path in wanted):
            yield f"{text(point)[:200]}: mounted by the guest and not read; what lies there is unknown"


def _homes(homes: Sequence[Home], finder: Finder) -> Iterator[Home]:
    """Yield the accounts whose home can hold files, a home that several share for each of them."""
    wanted = [
        home for home in homes if home.path.startswith(b"/") and home.path.rstrip(b"/") not in _NO_HOMES
    ]
    for home in wanted[:MAX_HOMES]:
        if len(home.path) > MAX_PATH_BYTES:
            finder.problem(
                f"the home of {home.owner[:64]} was not looked at: a path of {len(home.path)} bytes"
            )
        else:
            yield Home(home.owner, home.uid, home.path.rstrip(b"/"))
    if len(wanted) > MAX_HOMES:
        finder.problem(f"{len(wanted)} homes, over the limit: {len(wanted) - MAX_HOMES} were not looked at")


def _read_home(home: Home, settings: SshdSettings, found: _Found) -> None:
    finder = found.finder
    listed = _listed(finder, home.path + b"/.ssh")
    authorized = [path for path in listed if path.rpartition(b"/")[2].startswith(b"authorized_keys")]
    named = list(authorized)
    for pattern in settings.key_files:
        path = key_file(pattern, home.path, raw(home.owner), home.uid)
        if path is None:
            finder.problem(f"AuthorizedKeysFile {text(pattern)[:80]!r} has a token that is not known")
        else:
            named.append(path)
    for path in dict.fromkeys(named):
        _read_lines("authorized", home.owner, path, found)
    for path in listed:
        if path.endswith(b".pub"):
            _read_lines("user", home.owner, path, found)
        elif path not in authorized:
            _read_private(home.owner, "user", path, found)
    for place in places.IN_HOMES:
        _read_secret(home.path + b"/" + place.path, place, found)
    for path in _listed(finder, home.path + b"/" + places.GNUPG_KEYS.path):
        _read_secret(path, places.GNUPG_KEYS, found)


def _listed(finder: Finder, folder: bytes) -> list[bytes]:
    return [folder + b"/" + name for name in finder.names(folder, MAX_SSH_FILES)]


def _read_lines(role: str, owner: str, path: bytes, found: _Found) -> None:
    """Take over the public keys of a file, one a line; lines that are none are one problem."""
    content = found.finder.read(path, MAX_KEYS_FILE_BYTES)
    wrong: list[str] = []
    for number, line in enumerate((content or b"").split(b"\n"), 1):
        try:
            public = parse_key_line(line)
        except InputError as error:
            wrong.append(f"{text(path)}:{number}: {error}")
            continue
        if public:
            found.key(role, owner, public, path)
    if wrong:
        more = f" (and {len(wrong) - 1} more lines)" if len(wrong) > 1 else ""
        found.finder.problem(wrong[0] + more)


def _read_private(owner: str, role: str, path: bytes, found: _Found) -> bool:
    """Take over a private key: where it lies, and its public half where its format shows that."""
    if not found.finder.is_filled(path):
        return False
    content = found.finder.read(path, MAX_KEYS_FILE_BYTES)
    if content is None or not PRIVATE_KEY.search(content):
        return False
    found.secret(path, "SSH private key")
    try:
        public = public_half(content)
    except InputError as error:
        found.finder.problem(f"{text(path)}: {error}")
        return True
    if public:
        found.key(role, owner, public, path)
    return public is not None


def _read_host_keys(settings: SshdSettings, found: _Found) -> None:
    """Take over the host's keys; a key's own public half counts more than the file beside it."""
    names = found.finder.names(SSH_FOLDER, MAX_SSH_FILES)
    keys = [SSH_FOLDER + b"/" + name for name in names if name.startswith(HOST_KEY_START)]
    private = [path for path in keys if path.endswith(HOST_KEY_END)]
    for path in dict.fromkeys((*private, *settings.host_keys)):
        if not _read_private("", "host", path, found):
            _read_lines("host", "", path + b".pub", found)


def _read_certificates(found: _Found) -> None:
    for folder in places.CERTIFICATE_FOLDERS:
        for path in found.finder.files_below(folder, WALK_LIMITS):
            if not path.startswith(places.AUTHORITY_BUNDLES):
                _read_pem(path, found)


def _read_pem(path: bytes, found: _Found) -> None:
    content = found.finder.read(path, MAX_PEM_BYTES)
    if not content:
        return
    if PRIVATE_KEY.search(content):
        found.secret(path, "private key")
    try:
        for fingerprint in parse_certificates(content):
            if len(found.certificates) >= MAX_CERTIFICATES:
                found.finder.problem(f"more than {MAX_CERTIFICATES} certificates, the rest was left out")
                return
            found.certificates[Certificate(text(path), fingerprint)] = None
    except InputError as error:
        found.finder.problem(f"{text(path)}: {error}")


def _read_system_secrets(found: _Found) -> None:
    for place in places.IN_SYSTEM:
        _read_secret(place.path, place, found)
    for place in places.FOLDERS:
        for name in found.finder.names(place.path, MAX_FOLDER_FILES):
            _read_secret(place.path + b"/" + name, place, found)


def _read_secret(path: bytes, place: places.SecretPlace, found: _Found) -> None:
    if not found.finder.is_filled(path):
        return
    if place.needle:
        content = found.finder.read(path, MAX_NEEDLE_FILE_BYTES)
        if content is None or place.needle not in content:
            return
    found.secret(path, place.kind)
