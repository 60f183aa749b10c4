"""Where a machine is that lives on several hosts, by the order in which the record learned of it."""

import pytest
from recordvalues import NOW, execution, later, uuid

from undercroft.model.execution import Execution, Origin
from undercroft.usecases.firewall.whereabouts import strays

FIRST, OTHER, THIRD = "host1", "host2", "host3"


def began(*words: str) -> list[Execution]:
    """Return executions from words such as "host2 migrate stopped"; without an ending they live."""
    found = []
    for number, text in enumerate(words):
        host, origin, *ending = text.split()
        ends = {"ended_at": later(99), "ending": ending[0]} if ending else {}
        # Clocks of hosts say nothing: each began before all that were told earlier.
        at = later(-number)
        found.append(execution(number, uuid(1), host=host, origin=Origin(origin), started_at=at, **ends))
    return found


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (("host1 start", "host2 migrate"), set()),
        (("host1 start", "host2 start"), {OTHER}),
        (("host1 start", "host2 restore", "host2 revert"), {OTHER}),
        (("host1 start", "host1 revert", "host2 start"), {OTHER}),
        # It moves to and fro, and on; nobody has seen its ends.
        (("host1 start", "host2 migrate", "host1 migrate"), set()),
        (("host1 start", "host2 migrate", "host3 migrate"), set()),
        # Its host is gone without a word: it goes on where it went to.
        (("host1 start", "host2 migrate superseded", "host2 revert"), set()),
        (("host1 start", "host2 migrate stopped", "host2 start"), set()),
        # It lives where it went to, and is started where it came from.
        (("host1 start migrated", "host2 migrate", "host1 start"), {FIRST}),
        # A migration that came to nothing.
        (("host1 start", "host2 migrate failed", "host1 revert", "host2 start"), {OTHER}),
        (("host1 start", "host2 migrate stopped", "host1 revert", "host3 start"), {THIRD}),
        # Nobody tells which of two has moved: the one that came last.
        (("host1 start", "host2 start", "host3 migrate"), {OTHER, THIRD}),
        (("host1 start", "host2 start migrated", "host3 migrate"), {THIRD}),
        # A false one that was stopped is nobody any more.
        (("host1 start", "host2 start stopped", "host3 migrate"), set()),
        (("host1 start stopped", "host2 start", "host3 start"), {THIRD}),
    ],
)
def test_one_that_has_not_come_from_where_the_machine_lives_is_another_one(
    told: tuple[str, ...], expected: set[str]
) -> None:
    assert strays(began(*told)) == expected


def test_a_machine_of_one_host_is_never_astray() -> None:
    assert strays(began("host1 start superseded", "host1 load", "host1 start")) == frozenset()
    assert began("host1 start", "host1 start")[1].started_at < NOW
