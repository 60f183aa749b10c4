"""The agent's side of the hook: it is installed, told what counts without the agent, and its spool is read.

    install_hook(hooks, HookSettings.of(places))
    write_decision(places, LastDecision(...))
    for name in spooled(places):
        event = read_event(places, name)

Every file is replaced as a whole. What stands in the spool was written by the hook as root, and is checked
all the same: a file that is not as it should be is moved aside and never keeps the others back.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import cast

from undercroft.errors import InputError, NotFoundError, OperationError, StateError
from undercroft.model.execution import HookEvent
from undercroft.model.fleet import HeldTap
from undercroft.model.schema import Json, decode, encode
from undercroft.model.verdict import Action

HOOKS_FOLDER = Path("/etc/libvirt/hooks")
HOOK_NAME = "undercroft"
SETTINGS_NAME = "undercroft.json"
BAD_FOLDER = "bad"
MAX_EVENT_BYTES = 64 << 20
"""A domain's XML of 8 MiB, each character of which JSON may write with six."""
MAX_XML_CHARS = 8 << 20
MAX_NOTE_BYTES = 1 << 20
SAMPLE_BYTES = 1 << 20
KEY_BYTES = 32
HALF_WRITTEN_S = 600.0

_EVENT_NAME = re.compile(r"\d{20}-[0-9a-f]{32}\.json")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DECISION_MARK = b"undercroft last decision 1\n"
_PID_FILES = ("libvirtd.pid", "virtqemud.pid")


@dataclass(frozen=True, slots=True)
class HookSettings:
    """What the hook has to know.

    Attributes:
        state: the agent's folder of state.
        socket: where the agent answers.
        timeout_s: how long `prepare` waits for the answer.
        away: what a start gets while the agent is away and none of its last decisions counts.
        break_glass: names, patterns of names, or UUIDs of machines that always start then.
        spool_limit: events that may wait; starts are refused beyond it.
        label: a packet filter is in force, so that taps need its labels before their machine runs.
    """

    state: str
    socket: str
    timeout_s: float = 5.0
    away: Action = Action.REFUSE
    break_glass: tuple[str, ...] = ()
    spool_limit: int = 10_000
    label: bool = False


@dataclass(frozen=True, slots=True)
class DecidedImage:
    """One image that a decision rests on, by path, device and inode as stat(2) tells them."""

    path: str
    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class LastDecision:
    """The agent's last answer for a machine; what the hook goes by while the agent is away.

    Attributes:
        machine: its UUID.
        name: its name.
        action: what a start gets.
        hold: its taps stay closed until the agent has seen how it began.
        reason: one sentence.
        until: past this it counts for nothing.
        images: the top images of all its disks, and backing images. It counts while each is the same file
            and the machine has no other disk.
        leaves_open: what cannot be held stays open beside what is, which the policy allows.
    """

    machine: str
    name: str
    action: Action
    hold: bool
    reason: str
    until: datetime
    images: tuple[DecidedImage, ...]
    leaves_open: bool = False


@dataclass(frozen=True, slots=True)
class RunNote:
    """What the hook notes of a machine at `prepare` and `start`, until its release.

    `closed`: its network was to be closed; `taps` are those that the hook has closed. `images`: the files of
    its disks when it was judged. `label`: its taps were to be labelled before it ran; those that could not be
    are closed. `leaves_open`: interfaces that cannot be held stay open, which the policy allows.
    """

    machine: str
    name: str
    eid: str
    action: Action
    hold: bool
    closed: bool
    reason: str
    taps: tuple[HeldTap, ...]
    images: tuple[DecidedImage, ...] = ()
    label: bool = False
    leaves_open: bool = False


@dataclass(frozen=True, slots=True)
class Installed:
    """What `install_hook` did. `needs_reload`: libvirt looks for the folder of hooks only at its start."""

    changed: bool
    needs_reload: bool


def prepare_folders(state: Path) -> None:
    """Make the folders that the hook writes to, for root only, and the hook's key. Raises OperationError."""
    with _told(state):
        for folder in (
            state,
            state / "spool",
            state / "spool" / BAD_FOLDER,
            state / "decisions",
            state / "run",
        ):
            folder.mkdir(parents=True, exist_ok=True)
            if folder != state:
                folder.chmod(0o700)
        key = state / "hook.key"
        if not key.exists():
            write_file(key, secrets.token_bytes(KEY_BYTES))


def shipped_hook() -> bytes:
    """Return the hook as this version ships it."""
    return (resources.files("undercroft.hook") / "qemu_hook.py").read_bytes()


def install_hook(hooks: Path, settings: HookSettings) -> Installed:
    """Write the settings and the hook below libvirt's folder of hooks. Raises OperationError, StateError."""
    folder = hooks / "qemu.d"
    path = folder / HOOK_NAME
    with _told(path):
        folder.mkdir(parents=True, exist_ok=True)
        is_first = not any(hooks.glob("qemu")) and not any(folder.iterdir())
        write_file(hooks / SETTINGS_NAME, _json_bytes(encode(settings)), mode=0o644)
        hook = shipped_hook()
        changed = not _is_whole(path, hook)
        if changed:
            write_file(path, hook, mode=0o755)
    return Installed(changed, is_first)


def _is_whole(path: Path, hook: bytes) -> bool:
    """Tell whether the hook is there, unchanged, and nobody's but root's to write."""
    try:
        found = path.lstat()
        proper = stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o755
        return proper and found.st_uid == os.geteuid() and path.read_bytes() == hook
    except FileNotFoundError:
        return False


def remove_hook(hooks: Path) -> None:
    """Take the hook away, then its settings: machines start without Undercroft. Raises OperationError."""
    with _told(hooks):
        (hooks / "qemu.d" / HOOK_NAME).unlink(missing_ok=True)
        (hooks / SETTINGS_NAME).unlink(missing_ok=True)


def read_settings(hooks: Path) -> HookSettings:
    """Return the settings that the hook has. Raises NotFoundError, InputError, OperationError."""
    path = hooks / SETTINGS_NAME
    return decode(HookSettings, _loaded(path, MAX_NOTE_BYTES), str(path))


def daemon_pid(run: Path = Path("/run")) -> int:
    """Return the process of libvirtd, or of virtqemud. Raises NotFoundError where neither runs."""
    for name in _PID_FILES:
        with suppress(OSError, ValueError):
            pid = int((run / name).read_text())
            # The file may be of an earlier boot: the process has to be the daemon.
            if Path(f"/proc/{pid}/comm").read_text().strip() == name.removesuffix(".pid"):
                return pid
    raise NotFoundError(f"{run}: neither libvirtd nor virtqemud runs: systemctl start libvirtd")


def reload_daemon(run: Path = Path("/run")) -> None:
    """Let libvirt read its configuration again, which makes it see a first hook. Raises NotFoundError."""
    os.kill(daemon_pid(run), signal.SIGHUP)


def write_decision(state: Path, decision: LastDecision) -> None:
    """Leave what the hook goes by while the agent is away, authenticated.

    Raises InputError, OperationError.
    """
    body = _json_bytes(
        {
            "machine": _checked_uuid(decision.machine),
            "name": decision.name,
            "action": decision.action.value,
            "hold": decision.hold,
            "leaves_open": decision.leaves_open,
            "reason": decision.reason,
            "until_s": int(decision.until.timestamp()),
            "images": [cast("Json", asdict(image)) for image in decision.images],
        }
    )
    path = state / "decisions" / f"{decision.machine}.json"
    with _told(path):
        key = (state / "hook.key").read_bytes()
        code = hmac.new(key, _DECISION_MARK + body, hashlib.sha256).hexdigest()
        write_file(path, _json_bytes({"decision": body.decode(), "mac": code}))


def read_decision(state: Path, machine: str) -> LastDecision:
    """Return a machine's last decision, which is the agent's own: its code was checked.

    Raises:
        NotFoundError: there is none.
        InputError: it is malformed, another machine's, or its code does not match; or no UUID was given.
        OperationError: it, or the key, cannot be read.
    """
    path = state / "decisions" / f"{_checked_uuid(machine)}.json"
    untrusted = _loaded(path, MAX_NOTE_BYTES)
    text, code = untrusted.get("decision"), untrusted.get("mac")
    if not isinstance(text, str) or not isinstance(code, str):
        raise InputError(f"{path}: decision and mac: two texts expected")
    body = text.encode(errors="surrogatepass")
    with _told(path):
        key = (state / "hook.key").read_bytes()
    expected = hmac.new(key, _DECISION_MARK + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), code.encode(errors="surrogatepass")):
        raise InputError(f"{path}: it is not the agent's: its code does not match")
    found = _decided(body, str(path))
    if found.machine != machine:
        raise InputError(f"{path}: it is another machine's: {found.machine}")
    return found


def _decided(body: bytes, place: str) -> LastDecision:
    """Return what an authenticated body says. Raises InputError."""
    try:
        fields = json.loads(body)
        until = datetime.fromtimestamp(fields.pop("until_s"), UTC)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError) as error:
        raise InputError(f"{place}: no decision: {error}") from error
    return decode(LastDecision, {**fields, "until": until.isoformat()}, place)


def drop_decision(state: Path, machine: str) -> None:
    """Take a machine's last decision back. Raises InputError, OperationError."""
    path = state / "decisions" / f"{_checked_uuid(machine)}.json"
    with _told(path):
        path.unlink(missing_ok=True)


def read_note(state: Path, machine: str) -> RunNote | None:
    """Return what the hook noted of a machine that runs, None for nothing. Raises InputError."""
    path = state / "run" / f"{_checked_uuid(machine)}.json"
    try:
        return decode(RunNote, _loaded(path, MAX_NOTE_BYTES), str(path))
    except NotFoundError:
        return None


def write_note(state: Path, note: RunNote) -> None:
    """Replace the hook's note: once its network is open, `closed` is False and `taps` empty.

    A hook that finds a closed one when libvirt's daemon comes back holds its taps again.
    Raises InputError, OperationError.
    """
    path = state / "run" / f"{_checked_uuid(note.machine)}.json"
    with _told(path):
        write_file(path, _json_bytes(encode(note)))


def checked_event_name(untrusted: str) -> str:
    """Return the name of a spool file, which is a plain name then. Raises InputError."""
    if not _EVENT_NAME.fullmatch(untrusted):
        raise InputError(
            "not the name of a spool file: 20 digits, '-', 32 hexadecimal digits, '.json' expected"
        )
    return untrusted


def spooled(state: Path) -> list[str]:
    """Return the names of the events that wait, oldest first. Raises OperationError."""
    with _told(state / "spool"):
        return sorted(name for name in os.listdir(state / "spool") if _EVENT_NAME.fullmatch(name))


def read_event(state: Path, name: str) -> HookEvent:
    """Return an event of the spool.

    Raises:
        NotFoundError: it is not there any more.
        InputError: the name or the content is malformed; `set_aside` it.
        OperationError: it cannot be read.
    """
    path = state / "spool" / checked_event_name(name)
    untrusted = _loaded(path, MAX_EVENT_BYTES)
    # The XML may be longer than the schema lets any other text be.
    xml = untrusted.pop("xml", None)
    if not isinstance(xml, str) or len(xml) > MAX_XML_CHARS:
        raise InputError(f"{path}: xml: a text of at most {MAX_XML_CHARS} characters expected")
    event = replace(decode(HookEvent, {**untrusted, "xml": ""}, str(path)), xml=xml)
    if not _UUID.fullmatch(event.uuid) or not re.fullmatch(r"[0-9a-f]{32}", event.ident):
        raise InputError(f"{path}: uuid or ident is not one")
    return event


def set_aside(state: Path, name: str) -> Path:
    """Move a malformed file out of the way and return where it lies now. Raises OperationError."""
    target = state / "spool" / BAD_FOLDER / checked_event_name(name)
    with _told(target):
        (state / "spool" / name).replace(target)
    return target


def sweep(state: Path, now: datetime) -> None:
    """Remove what hooks that were killed left half written; a hook lives for less than a minute or two.

    Raises OperationError.
    """
    with _told(state):
        for folder in (state / "spool", state / "run"):
            for entry in os.scandir(folder):
                if not entry.name.startswith("."):
                    continue
                with suppress(FileNotFoundError):  # a hook that is at work has just given it its name
                    is_old = now.timestamp() - entry.stat(follow_symlinks=False).st_mtime > HALF_WRITTEN_S
                    if entry.is_file(follow_symlinks=False) and is_old:
                        Path(entry.path).unlink(missing_ok=True)


def remove_event(state: Path, name: str) -> None:
    """Remove an event that is on record. Raises OperationError."""
    path = state / "spool" / checked_event_name(name)
    with _told(path):
        path.unlink(missing_ok=True)


def save_sample(file: int) -> str:
    """Return `SaveImage.sample` of an open save image, as the hook counts it. Raises OSError."""
    size = os.fstat(file).st_size
    head = os.pread(file, SAMPLE_BYTES, 0)
    tail = os.pread(file, SAMPLE_BYTES, max(size - SAMPLE_BYTES, 0))
    return hashlib.sha256(size.to_bytes(8, "big") + head + tail).hexdigest()


def write_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace a file as a whole, durably. Raises OSError; the old file stands then."""
    # A round and a start may write one machine's decision at once, each in a thread of its own.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}")
    try:
        with open(
            temporary, "wb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, mode)
        ) as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _json_bytes(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _loaded(path: Path, limit_bytes: int) -> dict[str, object]:
    """Return the JSON object in a file. Raises NotFoundError, InputError, OperationError."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as file:
            untrusted = file.read(limit_bytes + 1)
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise OperationError(f"{path}: {error.strerror}") from error
    if len(untrusted) > limit_bytes:
        raise InputError(f"{path}: more than {limit_bytes} bytes")
    try:
        value = json.loads(untrusted)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: a JSON object expected")
    return value


def _checked_uuid(untrusted: str) -> str:
    if not _UUID.fullmatch(untrusted):
        raise InputError(f"{untrusted[:64]!r} is no machine's UUID in lower case")
    return untrusted


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise StateError(f"{error.filename or path}: {error.strerror}: move it away") from error
        raise OperationError(f"{error.filename or path}: {error.strerror}") from error
