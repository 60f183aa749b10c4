"""What the filter needs of a machine, in a column of its own, as it looks at all machines often.

It says nothing that `body` does not, but since when the machine has its UUID here, its MACs and addresses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from undercroft.model.domain import Domain, Interface, Ownership, Power
from undercroft.model.filter import NetworkedMachine, claims_of
from undercroft.store.fleet.codec import from_text
from undercroft.store.fleet.digests import to_text
from undercroft.store.fleet.tables import moment

MAX_REMEMBERED = 16_384
"""Of rows' values: most rows are as they were when the filter looks again."""


@dataclass(frozen=True, slots=True)
class StoredClaim:
    """A UUID, MAC or address of a machine, and since when it has it without a break, in microseconds."""

    claim: str
    since: int


@dataclass(frozen=True, slots=True)
class StoredNetwork:
    """The column's value."""

    uuid: str
    name: str
    power: Power
    interfaces: tuple[Interface, ...]
    ownership: Ownership
    claims: tuple[StoredClaim, ...]


def network_text(domain: Domain, before: Mapping[str, int], at: int) -> str:
    """Return the column's text.

    Args:
        domain: the machine as it is now.
        before: since when it has had what it has, by `claims_of`'s texts.
        at: when it has what is new.
    """
    claims = tuple(StoredClaim(claim, before.get(claim, at)) for claim in sorted(claims_of(domain)))
    return to_text(
        StoredNetwork(domain.uuid, domain.name, domain.power, domain.interfaces, domain.ownership, claims)
    )


def claims_in(text: str) -> dict[str, int]:
    """Return since when the machine has each of its claims. Raises OperationError where it is damaged."""
    return {item.claim: item.since for item in _stored(text)[0].claims} if text else {}


def uuid_in(text: str) -> str:
    """Return whose the text is. Raises OperationError where it is damaged."""
    return _stored(text)[0].uuid


def older(claims: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    """Return since when a machine has what it has by either, the earlier one of two."""
    return {**others, **{claim: min(since, others.get(claim, since)) for claim, since in claims.items()}}


def with_claims(text: str, before: Mapping[str, int]) -> str:
    """Return the text of a machine that had what it has since `before`. Raises as `networked`."""
    stored = _stored(text)[0]
    claims = tuple(
        StoredClaim(item.claim, min(item.since, before.get(item.claim, item.since))) for item in stored.claims
    )
    return to_text(replace(stored, claims=claims))


def networked(host: str, last_seen: datetime, text: str) -> NetworkedMachine:
    """Return a row's value. Raises OperationError where it is damaged."""
    stored, since = _stored(text)
    return NetworkedMachine(
        host, stored.uuid, stored.name, stored.power, stored.interfaces, stored.ownership, last_seen, since
    )


@lru_cache(MAX_REMEMBERED)
def _stored(text: str) -> tuple[StoredNetwork, Mapping[str, datetime]]:
    stored = from_text(StoredNetwork, text, "machine")
    return stored, {item.claim: moment(item.since) for item in stored.claims}
