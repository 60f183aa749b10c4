"""What an administrator asks of the vaults: `vaults`, `vault`, `verify`, `adopt` (docs/VAULT.md, "Orders").

Everything that a guest named is base64 in `name`, with a harmless `shown` beside it. Contents of sealed
blobs and secrets of keys are never answered.
"""

import base64
from bisect import bisect_right
from collections.abc import Callable

from undercroft.errors import DamagedError, InputError, NotFoundError, StateError
from undercroft.guestservice import naming
from undercroft.guestservice.control import Order
from undercroft.guestservice.service import Service
from undercroft.guestservice.verifying import Verifying
from undercroft.vault import keeping
from undercroft.vault.history import History
from undercroft.vault.names import MAX_NAME_BYTES, name_of, number_of
from undercroft.vault.start import Adoption
from undercroft.vault.state import Vault

PAGE = 150
PAGE_NAMES = 50
"""A guest may choose names of 128 bytes of which each takes five to be shown: more would not fit a packet."""

KINDS = ("counters", "spent", "ledgers", "blobs", "revoked", "keys", "executions")
Answer = dict[str, object]


class VaultOrders:
    """Answers them from what is in memory; the log is read in a process of its own."""

    def __init__(self, service: Service) -> None:
        """Take what they are about."""
        self._service = service
        self._verifying = Verifying(service)
        self._listed: tuple[bytes, str, list[int]] = (b"", "", [])

    def vaults(self, order: Order) -> Answer:
        """Return a page of vaults, in the order of their machines."""
        history = self._history()
        after = order.get("after", "")
        machines = sorted(history.vaults)
        if after != "":
            machines = machines[bisect_right(machines, naming.read_machine(after)) :]
        page = machines[:PAGE]
        more = naming.machine_text(page[-1]) if len(machines) > PAGE else ""
        return {"vaults": [_summary(history.vaults[each]) for each in page], "more": more}

    def vault(self, order: Order) -> Answer:
        """Return one vault; with `kind` a page of what it has of that kind."""
        history, machine = self._history(), naming.read_machine(order.get("machine"))
        vault = history.vaults.get(machine)
        if vault is None:
            raise NotFoundError(
                f"{naming.machine_text(machine)} has no vault: no guest of it was ever attached"
            )
        kind = order.get("kind", "")
        summary = _summary(vault)
        if kind == "":
            return summary
        if kind not in KINDS:
            raise InputError(f"`kind` is one of {', '.join(KINDS)}")
        if kind == "executions":
            return summary | _executions(vault, order)
        after = _name_after(order)
        numbers = self._numbers(vault, kind, fresh=after == 0)
        rest = numbers[bisect_right(numbers, after) :][: PAGE_NAMES + 1]
        page = rest[:PAGE_NAMES]
        more = _base64(name_of(page[-1])) if len(rest) > PAGE_NAMES else ""
        entries = [_entry(vault, kind, each) for each in page]
        if kind == "keys":
            for each, entry in zip(page, entries, strict=True):
                entry["public"] = self._public(vault, each)
        return summary | {"kind": kind, "entries": entries, "more": more}

    def verify(self, reply: Callable[[Answer], None]) -> None:
        """Read the log again, from the disk; `reply` is called with the answer later.

        Raises StateError where another one is under way.
        """
        self._verifying.begin(reply)

    def adopt(self, order: Order) -> Answer:
        """Go on with a log that does not fit the TPM, on record.

        Raises:
            InputError: no reason is given.
            StateError: nothing was refused, or it is refused for what nobody can adopt.
        """
        service, reason = self._service, order.get("reason")
        if not isinstance(reason, str) or not reason.strip():
            raise InputError("`adopt` needs a reason: it goes on record")
        vaults = service.vaults
        if vaults.engine is not None:
            raise StateError("the vaults are served: there is nothing to adopt")
        vaults.open(Adoption(reason.strip()))
        epoch = vaults.serving.history.epoch
        service.trace.adopted(reason.strip())
        service.serve()
        return {"epoch": epoch}

    def _public(self, vault: Vault, number: int) -> str:
        """Return the public part of a signing key (DER, base64), "" for one that cannot be read."""
        keep, (kind, kept) = self._service.vaults.keep, vault.keys[number]
        if keep is None:
            return ""
        try:
            secret = keep.decrypt(kept, vault.machine, name_of(number))
        except DamagedError:
            return ""
        return _base64(keeping.public(keeping.signing_key(kind, secret)))

    def _history(self) -> History:
        return self._service.vaults.serving.history

    def _numbers(self, vault: Vault, kind: str, *, fresh: bool) -> list[int]:
        """Return the names of a kind, sorted; a listing's later pages take the list of its first."""
        if fresh or self._listed[:2] != (vault.machine, kind):
            self._listed = (vault.machine, kind, sorted(_of_kind(vault, kind)))
        return self._listed[2]


def _of_kind(vault: Vault, kind: str) -> list[int]:
    core = vault.core
    found = {
        "counters": core.counters.values,
        "spent": core.spent.names,
        "ledgers": core.ledgers.heights,
        "blobs": core.blobs.versions.values,
        "revoked": core.revoked.names,
        "keys": vault.keys,
    }[kind]
    return list(found)


def _summary(vault: Vault) -> Answer:
    core = vault.core
    holder = next((each for each, number in vault.executions.items() if number == core.owner()), None)
    return {
        "machine": naming.machine_text(vault.machine),
        "holder": holder.hex() if holder is not None else "",
        "lives": core.living(),
        "epoch": core.era(),
        "newest": core.newest(),
        "changes": core.records(),
        "executions": len(vault.executions),
        "names": vault.names(),
        "kept_bytes": vault.kept_bytes,
        "counters": len(core.counters.values),
        "spent": len(core.spent.names),
        "ledgers": len(core.ledgers.heights),
        "blobs": len(core.blobs.versions.values),
        "revoked": len(core.revoked.names),
        "keys": len(vault.keys),
    }


def _executions(vault: Vault, order: Order) -> Answer:
    """Return a page of executions, latest first; `after` is the number of the last one that was answered."""
    after = order.get("after", "")
    if not isinstance(after, str) or (after and not after.isdecimal()):
        raise InputError("`after` is what the page before had in `more`")
    known = list(vault.executions)
    end = min(len(known), int(after[:10]) - 1) if after else len(known)
    begin = max(0, end - PAGE)
    page = [{"execution": known[at].hex(), "number": at + 1} for at in range(end - 1, begin - 1, -1)]
    return {"kind": "executions", "entries": page, "more": str(begin + 1) if begin else ""}


def _entry(vault: Vault, kind: str, number: int) -> Answer:
    core, name = vault.core, name_of(number)
    entry: Answer = {"name": _base64(name), "shown": shown(name)}
    if kind == "counters":
        entry["value"] = core.counter(number)
    elif kind == "ledgers":
        entry |= {"height": core.height(number), "head": core.head(number).to_bytes(32, "big").hex()}
        entry["entry_bytes"] = len(vault.entries.get(number, b""))
    elif kind == "blobs":
        entry |= {"version": core.version(number), "kept_bytes": len(vault.blobs.get(number, b""))}
    elif kind == "keys":
        entry["algorithm"] = {1: "ed25519", 2: "ecdsa-p256"}.get(vault.keys[number][0], "unknown")
        entry["revoked"] = core.is_revoked(number)
    return entry


def shown(name: bytes) -> str:
    """Return a name as text without anything that a terminal acts on: plain ASCII, the rest in hex."""
    return "".join(chr(each) if 0x20 <= each < 0x7F and each != 0x5C else f"\\x{each:02x}" for each in name)


def _base64(name: bytes) -> str:
    return base64.b64encode(name).decode()


def _name_after(order: Order) -> int:
    """Return the integer of the name after which a page begins, 0 for the first."""
    after = order.get("after", "")
    if after == "":
        return 0
    try:
        name = base64.b64decode(after, validate=True) if isinstance(after, str) else b""
    except ValueError:
        name = b""
    if not 0 < len(name) <= MAX_NAME_BYTES:
        raise InputError("`after` is what the page before had in `more`")
    return number_of(name)
