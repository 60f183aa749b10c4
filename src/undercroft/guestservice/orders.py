"""What the agent and an administrator may order: words, each with what it takes and answers (ADR 7)."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from undercroft.errors import InputError, StateError
from undercroft.guestservice import naming
from undercroft.guestservice.control import Connection, Order
from undercroft.guestservice.guest import Guest
from undercroft.guestservice.link import adopt
from undercroft.guestservice.naming import Who
from undercroft.guestservice.service import Service
from undercroft.guestservice.vaultorders import VaultOrders
from undercroft.vault.answers import EPOCH_LIMIT
from undercroft.version import VERSION

PAGE_GUESTS = 100
Answer = dict[str, object]


class Orders:
    """Answers them."""

    def __init__(self, service: Service) -> None:
        """Take what they are about."""
        self._service = service
        vaults = VaultOrders(service)
        self._plain: Mapping[str, Callable[[Order], Answer]] = MappingProxyType(
            {
                "renew": self._renew,
                "lift": self._lift,
                "detach": self._detach,
                "quiesce": self._quiesce,
                "again": self._again,
                "status": self._status,
                "guests": self._guests,
                "vaults": vaults.vaults,
                "vault": vaults.vault,
                "adopt": vaults.adopt,
            }
        )
        self._verify = vaults.verify

    def run(self, connection: Connection, order: Order, descriptors: list[int]) -> Answer | None:
        """Answer an order; None where the answer follows.

        Args:
            connection: whose order it is.
            order: with its word in `order`.
            descriptors: that came with it; one that is taken is taken out of the list.

        Raises InputError for an unknown order, and all that an order raises.
        """
        word = order["order"]
        if word == "attach":
            return self._attach(order, descriptors)
        if word == "watch":
            return self._watch(connection)
        if word == "verify":
            self._verify(lambda answer: connection.reply(order, answer))
            return None
        call = self._plain.get(word)
        if call is None:
            raise InputError(f"there is no order {word!r:.40}: is the guest service older than who asks?")
        return call(order)

    def _attach(self, order: Order, descriptors: list[int]) -> Answer:
        who = _who(order, naming.read_name(order.get("name", "")))
        if len(descriptors) != 1:
            raise InputError(
                "`attach` comes with one descriptor: the connected socket of the machine's channel"
            )
        self._check_epoch(order)
        held = self._service.attach(who, adopt(descriptors.pop()))
        return {"fence": held}

    def _renew(self, order: Order) -> Answer:
        who, before = _who(order, ""), order.get("before")
        self._check_epoch(order)
        held = self._service.renew(who, None if before is None else naming.read_execution(before))
        return {"fence": held}

    def _check_epoch(self, order: Order) -> None:
        """Raise StateError where what is to be served is of another epoch than whoever orders it noted."""
        noted, epoch = _epoch(order, "epoch"), self._service.vaults.serving.history.epoch
        if noted not in (0, epoch):
            raise StateError(
                f"epoch {epoch} is served by now, not {noted}: ask for it, note it, and order again"
            )

    def _lift(self, order: Order) -> Answer:
        return {"epoch": self._service.lift(_epoch(order, "above"))}

    def _detach(self, order: Order) -> Answer:
        return {"fence": self._service.detach(*_key(order), ended=flag(order, "ended"))}

    def _quiesce(self, order: Order) -> Answer:
        return {"number": self._service.quiesce(*_key(order))}

    def _again(self, order: Order) -> Answer:
        return {"held": self._service.again(*_key(order))}

    def _watch(self, connection: Connection) -> Answer:
        service = self._service

        def tell(event: str, fields: dict[str, object]) -> None:
            connection.send({"event": event, **fields})

        for guest in list(service.guests.values()):
            for event, fields in guest.told.items():
                tell(event, guest.who.fields() | fields)
        service.watchers.append(tell)
        connection.closing.append(lambda: service.watchers.remove(tell))
        return {}

    def _status(self, _order: Order) -> Answer:
        service, vaults = self._service, self._service.vaults
        engine = vaults.engine
        return {
            "version": VERSION,
            "state": "refused" if engine is None else "serving",
            "problem": vaults.problem or service.keep_file.problem,
            "tpm": vaults.tpm_name or "none",
            "unprotected": vaults.unprotected,
            "epoch": engine.history.epoch if engine is not None else 0,
            "voids": sorted(engine.history.voids)[-100:] if engine is not None else [],
            "anchors": service.groups.anchors,
            "writes": engine.history.budget.writes if engine is not None else 0,
            "guests": len(service.guests),
        }

    def _guests(self, order: Order) -> Answer:
        after = order.get("after", "")
        if not isinstance(after, str):
            raise InputError("`after` is what the page before had in `more`")
        keyed = sorted(
            (f"{naming.machine_text(m)}/{e.hex()}", g) for (m, e), g in self._service.guests.items()
        )
        rest = [pair for pair in keyed if pair[0] > after]
        page = rest[:PAGE_GUESTS]
        more = page[-1][0] if len(rest) > PAGE_GUESTS else ""
        return {"guests": [_shown(guest) for _, guest in page], "more": more}


def _shown(guest: Guest) -> Answer:
    about, confirmed = guest.about, guest.kept.confirmed
    return guest.who.fields() | {
        "name": guest.who.name,
        "state": guest.state,
        "fence": not guest.fenced,
        "elsewhere": guest.who.elsewhere,
        "generation": confirmed.generation if confirmed is not None else 0,
        "confirmed": confirmed is not None,
        "credited": confirmed is not None and confirmed.credited,
        "helper": about.helper if about is not None else "",
        "kernel": about.kernel if about is not None else "",
        "abilities": list(about.able) if about is not None else [],
        "dropped": guest.dropped,
    }


def _who(order: Order, name: str) -> Who:
    elsewhere = naming.read_host(order.get("elsewhere", ""))
    return Who(*_key(order), name, flag(order, "forked"), elsewhere)


def _epoch(order: Order, name: str) -> int:
    """Return an epoch, 0 where it is missing. Raises InputError."""
    found = order.get(name, 0)
    if type(found) is not int or not 0 <= found < EPOCH_LIMIT:
        raise InputError(f"`{name}` is an epoch: a number below {EPOCH_LIMIT}")
    return found


def _key(order: Order) -> tuple[bytes, bytes]:
    return naming.read_machine(order.get("machine")), naming.read_execution(order.get("execution"))


def flag(order: Order, name: str) -> bool:
    """Return a member that is true or false, false where it is missing. Raises InputError."""
    found = order.get(name, False)
    if not isinstance(found, bool):
        raise InputError(f"`{name}` is true or false")
    return found
