#!/usr/bin/python3 -ISB
"""libvirt's hook: keeps each event, asks the agent at `prepare`, labels or holds taps at `start`.

Installed as a file of its own, /etc/libvirt/hooks/qemu.d/undercroft. It follows ADR 3, "Hook and agent".
libvirt waits for it in every start of every machine, so that it:

- never calls libvirt, nor anything that does (libvirt would wait for itself for ever);
- ends by itself, whatever its disk, the agent or libvirt do (an alarm of its own);
- refuses `prepare` and `start` when anything goes wrong that it does not expect;
- lets no tap be on its bridge when QEMU begins that should be closed, or that the filter has no labels for;
- imports little: `_socket` and `_json` are the compiled halves of socket and json, 12 ms quicker to load.

One file, standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import _json
import _signal  # type: ignore[import-not-found]
import _socket
import os
import pyexpat
import sys
import time

SETTINGS_NAME = "undercroft.json"
MAX_XML_BYTES = 8 << 20
MAX_FILE_BYTES = 1 << 20
MAX_ANSWER_BYTES = 64 << 10
MAX_REASON_CHARS = 1000
MAX_DEPTH = 64
NOTIFY_TIMEOUT_S = 1.0
NETLINK_TIMEOUT_S = 2.0
SPARE_S = 15
"""What reading, fsync and netlink may take together, beside the wait for the agent."""
SAMPLE_BYTES = 1 << 20
SAVE_MAGIC = b"LibvirtQemudSave"
DECISION_MARK = b"undercroft last decision 1\n"
ACTIONS = ("allow", "quarantine", "refuse")
HOLDABLE = ("network", "bridge")

RTM_GETLINK, RTM_SETLINK = 18, 19
NLM_F_REQUEST, NLM_F_ACK, NLMSG_ERROR = 1, 4, 2
IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO, IFLA_INFO_KIND = 3, 10, 18, 1
IFF_UP = 1


class Refusal(Exception):  # noqa: N818 - no fault: what it is for
    """The machine may not start, or the event could not be kept; the text is for the administrator."""


class Settings:
    """What the agent wrote for the hook; see `undercroft.adapters.hookfiles.HookSettings`."""

    def __init__(self, raw: dict[str, object]) -> None:
        self.state = _text(raw, "state")
        self.socket = _text(raw, "socket")
        self.away = _text(raw, "away")
        timeout_s, spool_limit, listed = raw["timeout_s"], raw["spool_limit"], raw["break_glass"]
        if not isinstance(timeout_s, (int, float)) or not 0 < timeout_s <= 60:
            raise ValueError("timeout_s is not between 0 and 60")
        if not isinstance(spool_limit, int) or spool_limit < 1 or not isinstance(listed, list):
            raise ValueError("spool_limit or break_glass is not what it should be")
        if self.away not in ACTIONS:
            raise ValueError("away is none of allow, quarantine, refuse")
        self.timeout_s = float(timeout_s)
        self.label = raw.get("label") is True
        self.spool_limit = spool_limit
        self.break_glass = listed

    @property
    def spool(self) -> str:
        """The folder of events that the agent has not taken yet."""
        return self.state + "/spool"


class Interface:
    """One network interface of the XML."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.mac = self.bridge = self.tap = ""


class Machine:
    """What the hook takes from the XML: the UUID is checked, the rest is as libvirt wrote it.

    `disks` are the paths of the top images, "" for one that has none. `bypasses` are ways to a network
    that are no interface.
    """

    def __init__(self) -> None:
        self.uuid = ""
        self.interfaces: list[Interface] = []
        self.disks: list[str] = []
        self.bypasses: list[str] = []
        self.removable = False  # the disk that is being read

    @property
    def taps(self) -> list[Interface]:
        """Its interfaces that a tap on a bridge carries."""
        return [item for item in self.interfaces if item.kind in HOLDABLE]

    def unenforceable(self) -> str:
        """Return why its network cannot be held, "" when it can."""
        bad = [f"an interface of type {item.kind!r}" for item in self.interfaces if item.kind not in HOLDABLE]
        return ", ".join(bad + self.bypasses)


class Answer:
    """What was decided.

    `hold`: the taps stay closed until the agent has seen how the machine began. `label`: a filter is in
    force, so that they need its labels before QEMU runs; a quarantine is then a matter of its labels.
    `leaves_open`: what cannot be held stays open beside them, which the policy allows; else it is refused.
    """

    def __init__(
        self, action: str, hold: bool, reason: str, label: bool = False, leaves_open: bool = False
    ) -> None:
        self.action, self.hold, self.reason = action, hold, reason
        self.label, self.leaves_open = label, leaves_open

    @property
    def closed(self) -> bool:
        """True where the machine starts with its taps off their bridges."""
        return self.action != "refuse" and (self.hold or (self.action == "quarantine" and not self.label))


class Call:
    """One call of the hook: its arguments, the XML, and the settings."""

    def __init__(self, arguments: list[str], xml: str, settings: Settings) -> None:
        self.name, self.operation, self.sub, self.extra = arguments
        self.xml, self.settings = xml, settings
        self.machine = read_machine(xml)

    @property
    def listed(self) -> bool:
        """True where the break-glass list has the machine, by UUID, name or a pattern of names."""
        patterns = self.settings.break_glass
        if self.name in patterns or self.machine.uuid in patterns:
            return True
        if not any(letter in str(pattern) for pattern in patterns for letter in "*?["):
            return False
        import fnmatch  # noqa: PLC0415 - loads re, which only a host without its agent pays

        return any(fnmatch.fnmatchcase(self.name, str(pattern)) for pattern in patterns)

    def event(self, eid: str) -> dict[str, object]:
        """Return the event by the names of `undercroft.model.execution.HookEvent`."""
        return {
            "ident": os.urandom(16).hex(),
            "at_ns": time.time_ns(),
            "name": self.name,
            "uuid": self.machine.uuid,
            "operation": self.operation,
            "sub": self.sub,
            "extra": self.extra,
            "eid": eid,
            "xml": self.xml,
            "save": None,
            "alone": False,
            "decided": "",
            "reason": "",
        }


def main(arguments: list[str]) -> int:
    """Handle one call and return the exit code: 1 refuses, which libvirt heeds at `prepare` and `start`."""
    gate = arguments[1:3] in (["prepare", "begin"], ["start", "begin"])
    _signal.signal(_signal.SIGALRM, lambda *_: _overdue(gate))
    _signal.alarm(SPARE_S)
    try:
        if len(arguments) != 4:
            raise Refusal(f"libvirt calls a hook with 4 arguments, here are {len(arguments)}")
        settings = read_settings()
        _signal.alarm(SPARE_S + int(settings.timeout_s))
        handle(Call(arguments, read_input(), settings))
    except Refusal as refusal:
        say(str(refusal))
        return 1 if gate else 0
    except BaseException as error:  # noqa: BLE001 - the edge: told, and denied where a denial counts
        say(f"unexpected {type(error).__name__}: {error}; undercroft doctor says what is wrong")
        return 1 if gate else 0
    return 0


def handle(call: Call) -> None:
    """Do what the operation asks for. Raises Refusal, and whatever nobody expected."""
    step = (call.operation, call.sub)
    if step == ("prepare", "begin"):
        admit(call)
    elif step == ("start", "begin"):
        begin(call)
    else:
        note = read_note(call)
        if step == ("reconnect", "begin") and note.get("taps"):
            # A daemon that comes back puts the taps of its machines onto their bridges again.
            hold_taps(call, note)
        event = call.event(str(note.get("eid", "")))
        if step == ("restore", "begin"):
            event["save"] = find_save(call.machine.uuid)
        if step == ("release", "end"):
            remove(note_path(call))
        # What has begun must be able to end on record: twice the room of a start.
        notify(call.settings, keep(call, event, 2 * call.settings.spool_limit))


def admit(call: Call) -> None:
    """Mint the execution, ask, and refuse or note the answer. Raises Refusal."""
    eid = os.urandom(16).hex()
    event = call.event(eid)
    images = identities(call.machine.disks)  # before anybody reads them: what is judged is no later one
    try:
        name = keep(call, event, call.settings.spool_limit)
    except Refusal as refusal:
        if not call.listed:
            raise
        say(f"{call.name} starts, it is on the break-glass list, but without a record: {refusal}")
        write_note(call, eid, Answer("allow", False, "break-glass"), [], [])
        return
    answer, problem, connected = ask(call.settings, name)
    if answer is None:
        answer = decide_alone(call, problem)
        if connected and not call.listed:
            answer = doubted(call, answer)
        event.update(alone=True, decided=answer.action, reason=answer.reason)
        # Under a name of its own: the agent may be about to remove the first one.
        keep(call, event, 2 * call.settings.spool_limit)
        remove(f"{call.settings.spool}/{name}")
    if (answer.closed or answer.action == "quarantine") and (bad := call.machine.unenforceable()):
        if answer.leaves_open:
            answer.reason = f"{answer.reason}; the policy leaves open: {bad}"
        else:
            answer = Answer("refuse", False, unenforceable(call, answer.reason))
            event.update(ident=os.urandom(16).hex(), alone=True, decided="refuse", reason=answer.reason)
            keep(call, event, 2 * call.settings.spool_limit)
    if answer.action == "refuse":
        raise Refusal(f"{call.name} may not start: {answer.reason}")
    write_note(call, eid, answer, [], images)


def begin(call: Call) -> None:
    """Hold the taps, or have them labelled, where `prepare` said so; QEMU has not run yet. Raises Refusal."""
    note = read_note(call)
    event = call.event(str(note.get("eid", "")))
    failure, told = "", False
    try:
        if not note and not call.listed:
            raise Refusal(f"{note_path(call)} is missing: prepare leaves its answer there: start it again")
        check_unchanged(note.get("images"))
        if note.get("closed"):
            if call.machine.unenforceable() and note.get("leaves_open") is not True:
                raise Refusal(unenforceable(call, str(note.get("reason", ""))))
            hold_taps(call, note)
        elif note.get("label") and call.machine.taps:
            told = labelled(call, note, event)
    except (Refusal, OSError) as error:
        failure = f"its network cannot be held: {error}" if isinstance(error, OSError) else str(error)
        event.update(alone=True, decided="refuse", reason=failure)
    try:
        if not told:
            limit = call.settings.spool_limit * (2 if event["alone"] else 1)
            notify(call.settings, keep(call, event, limit))
    except Refusal:
        if not failure and not call.listed:
            raise
    if failure:
        raise Refusal(f"{call.name} may not start: {failure}")


def labelled(call: Call, note: dict[str, object], event: dict[str, object]) -> bool:
    """Return True once the agent has the labels of the machine's taps in the kernel's filter.

    False: nobody says so. The taps are then off their bridges, as for a start that nobody has confirmed, and
    `event` says why; the agent opens them once they have their labels. A machine on the break-glass list
    keeps them there: the filter itself lets nothing by that has no label. Raises Refusal, OSError.
    """
    try:
        name = keep(call, event, call.settings.spool_limit)
    except Refusal:
        if not call.listed:
            raise
        return True
    answer, problem, _ = ask(call.settings, name)
    if answer is not None and answer.action != "refuse" and not answer.hold:
        return True
    reason = f"its taps have no labels yet: {answer.reason if answer else problem}"
    # An event of its own: the agent may have taken the first one, when no tap was held yet.
    event.update(ident=os.urandom(16).hex(), alone=True, reason=reason)
    if not call.listed:
        hold_taps(call, {**note, "hold": True, "reason": reason})
    remove(f"{call.settings.spool}/{name}")
    return False


def unenforceable(call: Call, reason: str) -> str:
    """Return why a machine that has to start with its network closed cannot."""
    return (
        f"unenforceable: its network would have to be closed ({reason}), and {call.machine.unenforceable()}"
        " cannot be held: use interfaces on a bridge or a bridged network, or let the policy leave them open"
        " (unenforceable: allow)"
    )


# The agent


def ask(settings: Settings, name: str) -> tuple[Answer | None, str, bool]:
    """Return the agent's answer, or None and why there is none, in `timeout_s`; and if it took the call."""
    connected = False
    deadline = time.monotonic() + settings.timeout_s
    agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        agent.settimeout(settings.timeout_s)
        agent.connect(settings.socket)
        connected = True
        agent.sendall(name.encode() + b"\n")
        untrusted = b""
        while not untrusted.endswith(b"\n"):
            agent.settimeout(max(deadline - time.monotonic(), 0.001))
            piece = agent.recv(4096)
            if not piece or len(untrusted) > MAX_ANSWER_BYTES:
                return None, "it answered with nothing that can be used", connected
            untrusted += piece
        return read_answer(load(untrusted)), "", connected
    except OSError as error:
        return None, error.strerror or f"no answer in {settings.timeout_s:g} s", connected
    except ValueError as error:
        return None, f"its answer is malformed: {error}", connected
    finally:
        agent.close()


def notify(settings: Settings, name: str) -> None:
    """Tell the agent of a file; one that is away finds it later."""
    agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        agent.settimeout(min(settings.timeout_s, NOTIFY_TIMEOUT_S))
        agent.connect(settings.socket)
        agent.sendall(name.encode() + b"\n")
    except OSError:
        pass
    finally:
        agent.close()


def read_answer(untrusted: object) -> Answer:
    """Return the answer that these JSON values hold. Raises ValueError."""
    if not isinstance(untrusted, dict):
        raise ValueError("no object")
    action, hold, reason = untrusted.get("action"), untrusted.get("hold"), untrusted.get("reason")
    if action not in ACTIONS or not isinstance(hold, bool) or not isinstance(reason, str):
        raise ValueError("action, hold or reason is not what it should be")
    label, leaves_open = untrusted.get("label") is True, untrusted.get("leaves_open") is True
    return Answer(action, hold, printable(reason), label, leaves_open)


def decide_alone(call: Call, problem: str) -> Answer:
    """Return what counts without the agent: the break-glass list, its last decision, the settings."""
    away, label = f"the agent is away ({problem})", call.settings.label
    if call.listed:
        return Answer("allow", False, f"{away}; the machine is on the break-glass list", label)
    try:
        answer = last_decision(call)
        label = label and answer.action == "allow"  # what else a filter closes, is the agent's to say
        reason = f"{away}; its last decision: {answer.reason}"
        return Answer(answer.action, answer.hold, reason, label, answer.leaves_open)
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"no last decision counts ({getattr(error, 'strerror', None) or error})"
    return Answer(
        call.settings.away,
        False,
        f"{away}, {why}, and its settings then say {call.settings.away}:"
        " systemctl start undercroft, or add the machine to the break-glass list",
        label and call.settings.away == "allow",
    )


def doubted(call: Call, answer: Answer) -> Answer:
    """Return the answer for a machine about which an agent that is there has said nothing.

    Who hands in an image decides how long it takes to read, or that its reader fails: that must not be a way
    around the agent. What may start then starts with its network closed, until the agent has read it.
    """
    if answer.action != "allow" or (call.machine.unenforceable() and not answer.leaves_open):
        return answer
    reason = f"{answer.reason}; its network is closed until the agent has read it"
    return Answer("quarantine", False, reason, leaves_open=answer.leaves_open)


def last_decision(call: Call) -> Answer:
    """Return the agent's last answer, as long as it counts for this machine on these disks.

    Raises ValueError, KeyError or TypeError saying why it does not count, OSError where it cannot be read.
    """
    import hashlib  # noqa: PLC0415 - 3 ms that only a host without its agent pays
    import hmac  # noqa: PLC0415

    state, uuid = call.settings.state, call.machine.uuid
    outer = _object(load(read_file(f"{state}/decisions/{uuid}.json")))
    body, mac = _text(outer, "decision").encode(), _text(outer, "mac")
    key = read_file(f"{state}/hook.key")
    expected = hmac.new(key, DECISION_MARK + body, hashlib.sha256).hexdigest()
    if len(key) < 32 or not hmac.compare_digest(expected, mac):
        raise ValueError("it is not the agent's: its code does not match")
    raw = _object(load(body))
    if raw["machine"] != uuid:
        raise ValueError("it is another machine's")
    until = raw["until_s"]
    if not isinstance(until, int) or time.time() >= until:
        raise ValueError("it has expired")
    answer = read_answer(raw)
    try:
        check_images(call.machine.disks, raw["images"])
    except (OSError, ValueError):
        # Other disks lift no refusal: where the settings would let it in, what was said of it counts.
        if ACTIONS.index(answer.action) <= ACTIONS.index(call.settings.away):
            raise
    return answer


def check_images(disks: list[str], listed: object) -> None:
    """Raise ValueError unless every disk is a listed image and all images are the same files as then."""
    same = set()
    for image in listed if isinstance(listed, list) else ():
        path = _text(image, "path")
        found = os.stat(path)
        if (found.st_dev, found.st_ino) != (image["device"], image["inode"]):
            raise ValueError(f"{path} was replaced since")
        same.add(path)
    for path in disks:
        if path not in same:
            raise ValueError(f"{path or 'a disk without a path'} was not part of it")


def identities(disks: list[str]) -> list[dict[str, object]]:
    """Return which files the disks' paths lead to now; a path that leads nowhere is left out."""
    found: list[dict[str, object]] = []
    for path in filter(None, disks):
        try:
            status = os.stat(path)
        except OSError:
            continue
        found.append({"path": path, "device": status.st_dev, "inode": status.st_ino})
    return found


def check_unchanged(noted: object) -> None:
    """Raise Refusal where a disk's path leads to another file than at `prepare`, when it was judged."""
    for image in noted if isinstance(noted, list) else ():
        path = _text(image, "path")
        if identities([path]) != [image]:
            raise Refusal(f"{path} was replaced after it was judged: start it again")


# Files


def read_settings() -> Settings:
    """Return the settings. Raises Refusal with the cure."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = f"{folder}/{SETTINGS_NAME}"
    try:
        found = os.stat(path)
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            raise ValueError("others than root may write it")
        return Settings(_object(load(read_file(path))))
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise Refusal(
            f"{path}: {what}; undercroft up writes it; to do without Undercroft"
            f" remove {os.path.abspath(__file__)}"
        ) from None


def keep(call: Call, event: dict[str, object], limit: int) -> str:
    """Write an event into the spool, durably, and return its name there. Raises Refusal."""
    folder = call.settings.spool
    name = f"{time.time_ns():020d}-{event['ident']}.json"
    try:
        waiting = len(os.listdir(folder))
        if waiting >= limit:
            raise Refusal(
                f"{folder} is full: {waiting} events wait for the agent: systemctl restart undercroft,"
                " then undercroft doctor"
            )
        write_file(folder, name, dump(event), durable=True)
    except OSError as error:
        raise Refusal(
            f"{folder}: the event cannot be kept: {error.strerror}; undercroft doctor says more"
        ) from None
    return name


def note_path(call: Call) -> str:
    """Return where the hook keeps what it knows of a machine that runs."""
    return f"{call.settings.state}/run/{call.machine.uuid}.json"


def read_note(call: Call) -> dict[str, object]:
    """Return what `prepare` noted, {} for nothing usable."""
    try:
        return _object(load(read_file(note_path(call))))
    except (OSError, ValueError, TypeError):
        return {}


def write_note(call: Call, eid: str, answer: Answer, taps: list[object], images: object) -> None:
    """Note a running machine's execution, answer, taps and images; it goes with a reboot: no fsync.

    Raises Refusal where it cannot be written, unless the machine starts whatever happens.
    """
    note = {
        "machine": call.machine.uuid,
        "name": call.name,
        "eid": eid,
        "action": answer.action,
        "hold": answer.hold,
        "closed": answer.closed,
        "label": answer.label,
        "leaves_open": answer.leaves_open,
        "reason": answer.reason,
        "taps": taps,
        "images": images,
    }
    folder, _, name = note_path(call).rpartition("/")
    try:
        write_file(folder, name, dump(note), durable=False)
    except OSError as error:
        if answer.closed or not call.listed:
            raise Refusal(f"{folder}: the answer cannot be noted: {error.strerror}") from None


def write_file(folder: str, name: str, data: bytes, *, durable: bool) -> None:
    """Replace a file as a whole. Raises OSError; nothing is left then."""
    temporary = f"{folder}/.{name}.{os.getpid()}"
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            while data:
                data = data[os.write(file, data) :]
            if durable:
                os.fsync(file)
        finally:
            os.close(file)
        os.rename(temporary, f"{folder}/{name}")
    except OSError:
        remove(temporary)
        raise
    if durable:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def read_file(path: str) -> bytes:
    """Return a small regular file. Raises OSError, ValueError where it is larger than the limit."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        data = os.read(file, MAX_FILE_BYTES + 1)
    finally:
        os.close(file)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    return data


def remove(path: str) -> None:
    """Remove a file that may be gone already."""
    try:  # noqa: SIM105 - contextlib would be one import more
        os.unlink(path)
    except OSError:
        pass


def read_input() -> str:
    """Return the XML on standard input. Raises Refusal where it is over the limit."""
    pieces, size = [], 0
    while piece := os.read(0, 1 << 16):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_XML_BYTES:
            raise Refusal(f"the domain's XML has more than {MAX_XML_BYTES} bytes")
    return b"".join(pieces).decode("utf-8", "replace")


# The domain's XML


def read_machine(xml: str) -> Machine:
    """Return what the hook needs of a domain. Raises Refusal where it is no domain's XML."""
    machine = Machine()
    stack: list[str] = []
    uuid: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        stack.append(tag)
        if len(stack) > MAX_DEPTH:
            raise Refusal("the domain's XML is nested too deeply")
        if len(stack) > 2:
            _take(machine, "/".join(stack[1:]), attributes)

    def text(data: str) -> None:
        if stack == ["domain", "uuid"]:
            uuid.append(data)

    def doctype(*_: object) -> None:
        raise Refusal("the domain's XML has a document type")

    parser = pyexpat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _tag: stack.pop()
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(xml.encode(), True)
    except pyexpat.ExpatError as error:
        raise Refusal(f"the domain's XML is malformed: {error}") from None
    machine.uuid = checked_uuid("".join(uuid).strip())
    return machine


def _take(machine: Machine, path: str, attributes: dict[str, str]) -> None:
    """Take one element of the domain, named by its path below <domain>."""
    if path == "devices/interface":
        machine.interfaces.append(Interface(attributes.get("type", "")))
    elif path == "devices/interface/mac":
        machine.interfaces[-1].mac = attributes.get("address", "").lower()
    elif path == "devices/interface/source":
        machine.interfaces[-1].bridge = attributes.get("bridge", "")
    elif path == "devices/interface/target":
        machine.interfaces[-1].tap = attributes.get("dev", "")
    elif path == "devices/disk":
        machine.removable = attributes.get("device", "disk") not in {"disk", "lun"}
        if not machine.removable:
            machine.disks.append("")
    elif path == "devices/disk/source" and not machine.removable:
        machine.disks[-1] = attributes.get("file") or attributes.get("dev") or ""
    elif path == "devices/hostdev/source/address" and "bus" in attributes and "slot" in attributes:
        _take_pci(machine, attributes)
    elif path == "devices/hostdev":
        # A network adapter like any other device; what it is, only its descriptors would tell.
        if attributes.get("type") == "usb":
            machine.bypasses.append("a USB device of the host")
    elif path.endswith(":commandline/qemu:arg"):
        # "--netdev", "-readconfig", "-set": which of them make a network is QEMU's to know.
        found = "what <qemu:commandline> adds"
        if found not in machine.bypasses:
            machine.bypasses.append(found)


def _take_pci(machine: Machine, attributes: dict[str, str]) -> None:
    """Note a PCI device of the host that is a network controller (class 02), or whose class is not told."""
    address = "without an address"
    try:
        parts = [int(attributes.get(name, "0"), 16) for name in ("domain", "bus", "slot", "function")]
        address = "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)
        if not read_file(f"/sys/bus/pci/devices/{address}/class").startswith(b"0x02"):
            return
    except (OSError, ValueError):
        pass
    machine.bypasses.append(f"the host's PCI device {address}")


def checked_uuid(untrusted: str) -> str:
    """Return a UUID in lower case, which may be part of a file's name. Raises Refusal."""
    parts = untrusted.lower().split("-")
    if [len(part) for part in parts] != [8, 4, 4, 4, 12] or set("".join(parts)) - set("0123456789abcdef"):
        raise Refusal("the domain's XML has no proper <uuid>")
    return "-".join(parts)


# Save images


def find_save(uuid: str) -> dict[str, object] | None:
    """Return the machine's save image among the files that libvirt, the parent, has open; None for none."""
    folder = f"/proc/{os.getppid()}/fd"
    try:
        numbers = os.listdir(folder)
    except OSError:
        return None
    for number in numbers:
        try:
            save = _read_save(f"{folder}/{number}", uuid)
        except OSError:
            continue  # closed meanwhile, or not a file that can be opened
        if save is not None:
            return save
    return None


def _read_save(path: str, uuid: str) -> dict[str, object] | None:
    if (os.stat(path).st_mode & 0o170000) != 0o100000:  # opening a pipe would change what libvirt sees
        return None
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.pread(file, len(SAVE_MAGIC), 0) != SAVE_MAGIC:
            return None
        found = os.fstat(file)
        head = os.pread(file, SAMPLE_BYTES, 0)
        tail = os.pread(file, SAMPLE_BYTES, max(found.st_size - SAMPLE_BYTES, 0))
    finally:
        os.close(file)
    if f"<uuid>{uuid}</uuid>".encode() not in head.lower():
        return None  # several machines may be restored at the same time
    import hashlib  # noqa: PLC0415 - only a restore pays for it

    return {
        "path": os.readlink(path),  # noqa: PTH115 - pathlib is slow to load
        "device": found.st_dev,
        "inode": found.st_ino,
        "size_bytes": found.st_size,
        "modified_ns": found.st_mtime_ns,
        "sample": hashlib.sha256(found.st_size.to_bytes(8, "big") + head + tail).hexdigest(),
    }


# Taps


def hold_taps(call: Call, note: dict[str, object]) -> None:
    """Take the machine's taps off their bridges and set them down; the bridges are noted before.

    Raises Refusal or OSError where one cannot be held.
    """
    taps = note.get("taps")
    known = {tap["tap"]: tap["bridge"] for tap in taps} if isinstance(taps, list) else {}
    links = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, 0)
    try:
        links.settimeout(NETLINK_TIMEOUT_S)
        found = []
        for interface in call.machine.taps:
            name = interface.tap
            if not 0 < len(name.encode()) < 16:
                raise Refusal(f"unenforceable: the interface {interface.mac} has no tap")
            index, _, master, kind = get_link(links, name, 0)
            if kind != b"tun":
                raise Refusal(f"unenforceable: {name} is no tap")
            bridge = get_link_name(links, master) if master else known.get(name) or interface.bridge
            if not bridge:
                raise Refusal(f"unenforceable: the tap {name} is on no bridge")
            found.append((name, index, bridge))
        noted: list[object] = [{"tap": name, "bridge": bridge} for name, _, bridge in found]
        answer = Answer(
            str(note.get("action", "")),
            bool(note.get("hold")),
            str(note.get("reason", "")),
            bool(note.get("label")),
            note.get("leaves_open") is True,
        )
        write_note(call, str(note.get("eid", "")), answer, noted, note.get("images", []))
        for name, index, _ in found:
            close_link(links, name, index)
    finally:
        links.close()


def close_link(links: _socket.socket, name: str, index: int) -> None:
    """Set a link down and without a master, and see that it is. Raises OSError, Refusal."""
    request(links, RTM_SETLINK, NLM_F_ACK, index, IFF_UP, attribute(IFLA_MASTER, bytes(4)))
    _, flags, master, _ = get_link(links, name, 0)
    if master or flags & IFF_UP:
        raise Refusal(f"the tap {name} is still open after the kernel said that it is closed")


def get_link(links: _socket.socket, name: str, index: int) -> tuple[int, int, int, bytes]:
    """Return (index, flags, master's index or 0, driver) of a link, by its name or, for "", its index."""
    wanted = attribute(IFLA_IFNAME, name.encode() + b"\0") if name else b""
    reply = request(links, RTM_GETLINK, 0, index, 0, wanted)
    found = int.from_bytes(reply[4:8], sys.byteorder), int.from_bytes(reply[8:12], sys.byteorder)
    values = attributes(reply[16:])
    kind = attributes(values.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND, b"").rstrip(b"\0")
    return *found, int.from_bytes(values.get(IFLA_MASTER, b""), sys.byteorder), kind


def get_link_name(links: _socket.socket, index: int) -> str:
    """Return the name of a link."""
    reply = request(links, RTM_GETLINK, 0, index, 0, b"")
    return attributes(reply[16:])[IFLA_IFNAME].rstrip(b"\0").decode()


def request(links: _socket.socket, kind: int, flags: int, index: int, change: int, rest: bytes) -> bytes:
    """Send one rtnetlink(7) link message and return the body of the answer. Raises OSError."""

    def word(value: int, size: int = 4) -> bytes:
        return value.to_bytes(size, sys.byteorder)

    body = bytes(4) + word(index) + word(0) + word(change) + rest
    header = word(16 + len(body)) + word(kind, 2) + word(NLM_F_REQUEST | flags, 2) + word(1) + word(0)
    links.send(header + body)
    reply = links.recv(1 << 16)
    if int.from_bytes(reply[4:6], sys.byteorder) == NLMSG_ERROR:
        number = -int.from_bytes(reply[16:20], sys.byteorder, signed=True)
        if number:
            raise OSError(number, os.strerror(number))
    return reply[16 : int.from_bytes(reply[:4], sys.byteorder)]


def attribute(kind: int, data: bytes) -> bytes:
    """Return one netlink attribute, padded."""
    size = 4 + len(data)
    return size.to_bytes(2, sys.byteorder) + kind.to_bytes(2, sys.byteorder) + data + bytes(-size % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Return the attributes of a message by kind."""
    found = {}
    while len(data) >= 4 and (size := int.from_bytes(data[:2], sys.byteorder)) >= 4:
        found[int.from_bytes(data[2:4], sys.byteorder)] = data[4:size]
        data = data[(size + 3) & ~3 :]
    return found


# JSON, without the 6 ms that importing json takes


class _Context:
    """How `_json`'s scanner reads: plain JSON."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012 - the scanner asks for it by this name


def load(data: bytes) -> object:
    """Return the one JSON value in `data`. Raises ValueError."""
    text = data.decode().strip(" \t\r\n")
    try:
        value, end = _json.make_scanner(_Context)(text, 0)  # type: ignore[arg-type]
    except (StopIteration, SystemError, RecursionError):
        # SystemError: it wants to raise an error of json.decoder, which nobody has imported.
        raise ValueError("malformed JSON") from None
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value


def dump(value: object) -> bytes:
    """Return JSON in ASCII for what the hook writes."""
    return _dumped(value).encode()


def _dumped(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return _json.encode_basestring_ascii(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_dumped(key)}:{_dumped(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_dumped, value)) + "]"
    return str(value)


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


def _text(raw: dict[str, object], name: str) -> str:
    value = raw[name]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is no text")
    return value


# What people see


def printable(text: str) -> str:
    """Return a reason that is safe to show in a terminal and in virsh."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:MAX_REASON_CHARS])


def say(text: str) -> None:
    """Write one line to standard error, which virsh shows where the hook refuses."""
    os.write(2, f"undercroft: {printable(text)}\n".encode("utf-8", "replace"))


def _overdue(gate: bool) -> None:
    say("the hook took too long; undercroft doctor says what is wrong")
    os._exit(1 if gate else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
