"""An applied policy as the record keeps it: one canonical text for each policy, and back.

The text is JSON with a format number. What comes back has the digest of what went in, and its places. A text
that is not exactly what `to_text` writes is refused: cut, edited, of another format, or with values that no
reader of policies lets by. The compiler so never meets what it was not written for.

What an earlier version wrote lacks the fields that have come since: these get their defaults, which mean what
the earlier version did. A field that this version does not know may forbid something: it is refused.
"""

import json
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass

from undercroft.errors import InputError, StateError
from undercroft.firewall.policy import (
    MAX_HOPS,
    MAX_OPENINGS_PER_S,
    MAX_PORTS_PER_SERVICE,
    MAX_VLAN,
    PORT_PROTOCOLS,
    FirewallPolicy,
    Peer,
    PeerKind,
    Service,
)
from undercroft.firewall.shapes import is_device, is_name
from undercroft.model.schema import decode, encode
from undercroft.version import VERSION

FORMAT = 1
MAX_TEXT_CHARS = 64 << 20
"""Room for the largest policy that reading lets by, with long places."""
MAX_STATE_S = 7 * 86_400

_CURE = "apply the policy again with `undercroft firewall apply`"


@dataclass(frozen=True, slots=True)
class _Stored:
    format: int
    policy: FirewallPolicy


def to_text(policy: FirewallPolicy) -> str:
    """Return the text: keys sorted, no spaces, ASCII. Equal policies with equal places have equal texts."""
    return _written(encode(_Stored(FORMAT, policy)))


def from_text(text: str) -> FirewallPolicy:
    """Return the policy that `to_text` wrote.

    Args:
        text: as the record has it; it may be anything.

    Raises:
        StateError: it is not a policy in this format; says what is wrong, and what to do.
    """
    try:
        return _read(text)
    except InputError as error:
        raise StateError(f"the applied policy on record: {error}; {_CURE}") from error


def _completed(annotation: object, value: object, place: str) -> object:
    """Return the JSON value of a dataclass with the defaults of fields that it lacks, and so of all in it.

    Raises StateError for a field that this version does not know.
    """
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple and isinstance(value, list):
        return [_completed(arguments[0], item, place) for item in value]
    if not (isinstance(annotation, type) and is_dataclass(annotation) and isinstance(value, dict)):
        return value
    hints = typing.get_type_hints(annotation)
    unknown = sorted(value.keys() - hints.keys())
    if unknown:
        raise StateError(
            f"the applied policy on record: {place} has {unknown[0][:64]!r}, which Undercroft {VERSION} does"
            " not know: a newer one applied it; update Undercroft on this host, or apply the policy again"
            " with this one: `undercroft firewall apply`"
        )
    defaults = {item.name: encode(item.default) for item in fields(annotation) if item.default is not MISSING}
    return {name: _completed(hints[name], item, name) for name, item in {**defaults, **value}.items()}


def _written(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _read(text: str) -> FirewallPolicy:
    if len(text) > MAX_TEXT_CHARS:
        raise InputError(f"{len(text):,} characters, the limit is {MAX_TEXT_CHARS:,}")
    try:
        value = json.loads(text)
        canonical = _written(value)
    except (ValueError, RecursionError) as error:
        raise InputError(f"no JSON ({type(error).__name__})") from error
    found = value.get("format") if isinstance(value, dict) else None
    if found != FORMAT:
        raise InputError(f"format {str(found)[:20]!r}, this version reads {FORMAT}")
    if canonical != text:
        raise InputError("written otherwise than this version writes it")
    value = _completed(_Stored, value, "it")
    policy = decode(_Stored, value, "policy").policy
    wrong = next(_wrong(policy), None)
    if wrong:
        raise InputError(wrong)
    if to_text(policy) != _written(value):
        raise InputError("written otherwise than this version writes it")
    return policy


def _wrong(policy: FirewallPolicy) -> Iterator[str]:
    """Yield what no reader of policies lets by."""
    for rule in policy.labels:
        if not is_name(rule.name):
            yield f"label {rule.name[:64]!r} is no name"
    seen: set[str] = set()
    for named in policy.addresses:
        if not is_name(named.name) or named.name in seen:
            yield f"addresses {named.name[:64]!r}: no name, or twice"
        seen.add(named.name)
    yield from _wrong_rules(policy)
    for grant in policy.vlans:
        if not is_name(grant.label) or not all(1 <= one <= MAX_VLAN for one in grant.ids):
            yield f"VLANs of label {grant.label[:64]!r} are none"
    for device in (*policy.ports.machines, *policy.ports.uplinks):
        if not is_device(device):
            yield f"device {device[:64]!r} is none"
    yield from _wrong_numbers(policy)


def _wrong_rules(policy: FirewallPolicy) -> Iterator[str]:
    for flow in policy.flows:
        if not flow.services:
            yield f"a flow without services at {flow.place[:200]!r}"
        for side in (flow.source, flow.target):
            yield from _wrong_peer(side)
        for service in flow.services:
            yield from _wrong_service(service)
    for never in policy.nevers:
        if not 1 <= never.hops <= MAX_HOPS:
            yield f"a never over {never.hops} hops"
        for side in (never.source, never.target, *never.exceptions):
            yield from _wrong_peer(side)
        for service in never.services:
            yield from _wrong_service(service)


def _wrong_peer(peer: Peer) -> Iterator[str]:
    match peer.kind:
        case PeerKind.LABEL:
            right = is_name(peer.label) and not peer.networks
        case PeerKind.NETWORK:
            right = bool(peer.networks) and (not peer.label or is_name(peer.label))
        case _:
            right = not peer.label and not peer.networks
    if not right:
        yield f"peer {peer.kind} {peer.label[:64]!r} is not as it has to be"


def _wrong_service(service: Service) -> Iterator[str]:
    low, high = service.low, service.high
    if service.protocol in PORT_PROTOCOLS:
        right = 1 <= low <= high <= 65_535 and high - low < MAX_PORTS_PER_SERVICE
    else:
        right = low == high == 0
    if not right:
        yield f"service {service.protocol} {low} to {high} is none"


def _wrong_numbers(policy: FirewallPolicy) -> Iterator[str]:
    log = policy.log
    if not (0 <= log.packets <= 100_000 and 0 <= log.burst <= 100_000 and 0 <= log.group <= 65_535):
        yield f"log of {log.packets} packets, burst {log.burst}, group {log.group}"
    if log.per_s not in {1, 60, 3600}:
        yield f"log in {log.per_s} seconds"
    for seconds in (policy.tcp_state_s, policy.other_state_s):
        if not 1 <= seconds <= MAX_STATE_S:
            yield f"idle flows kept for {seconds} seconds"
    if not 1 <= policy.openings_per_s <= MAX_OPENINGS_PER_S:
        yield f"{policy.openings_per_s} openings in a second"
