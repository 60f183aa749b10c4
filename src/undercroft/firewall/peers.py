"""What the names in a rule mean: labels, addresses, services, and the words that policies know."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from undercroft.firewall.policy import NamedAddresses, Peer, PeerKind, Service
from undercroft.firewall.shapes import network, service
from undercroft.steady import nodes
from undercroft.steady.nodes import Node
from undercroft.steady.shapes import Checker, possible

_WORDS = {"*": PeerKind.ANY, "world": PeerKind.WORLD, "host": PeerKind.HOST}


@dataclass(slots=True)
class Names:
    """What the policy's files name."""

    labels: set[str] = field(default_factory=set)
    addresses: dict[str, NamedAddresses] = field(default_factory=dict)
    services: dict[str, tuple[Service, ...]] = field(default_factory=dict)


def peer_of(checker: Checker, node: Node, what: str, names: Names) -> Peer | None:
    """Return a side of a rule: a word, a label, a name of `addresses`, a network or an address."""
    text = checker.text(node, what, "a label, a network, world, host or *")
    if text is None:
        return None
    if text in _WORDS:
        return Peer(_WORDS[text])
    if text in names.labels:
        return Peer(PeerKind.LABEL, text)
    if text in names.addresses:
        return Peer(PeerKind.NETWORK, text, names.addresses[text].networks)
    found = network(text)
    if found is None:
        choices = [*sorted({*names.labels, *names.addresses}), *_WORDS]
        checker.note(
            node.place,
            f"{what}: found {text[:64]!r}; {possible(text, choices)}, a network; or say where it is:"
            f" addresses: {{{text[:64]}: 192.0.2.10}}",
        )
        return None
    if isinstance(found, str):
        checker.note(node.place, f"{what}: {found}")
        return None
    return Peer(PeerKind.NETWORK, networks=(found,))


def service_list(checker: Checker, node: Node, what: str, names: Names) -> tuple[Service, ...]:
    """Return the services of a text or a list of texts, each once."""
    found: list[Service] = []
    items: Iterable[Node] = node.items if isinstance(node, nodes.Sequence) else (node,)
    if isinstance(node, nodes.Sequence) and not node.items:
        checker.note(node.place, f"{what}: found an empty list; leave the rule out")
    for item in items:
        text = checker.text(item, what, "a service such as tcp/443")
        if text is None:
            continue
        if text in names.services:
            found += names.services[text]
            continue
        read = service(text)
        if isinstance(read, Service):
            found.append(read)
        else:
            checker.note(item.place, f"{what}: {read}")
    return tuple(dict.fromkeys(found))
