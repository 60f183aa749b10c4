"""What stands around the table is looked at by the agent: told as news once, and while it is there."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any

import pytest
from memoryfilter import MemoryFilter

from undercroft.assurance.firewall.hostfacts import Surroundings
from undercroft.errors import NotFoundError
from undercroft.firewall.classes import Classes, assigned
from undercroft.firewall.compiler import TABLE_NAME, compile_ruleset
from undercroft.firewall.fleet import Fleet, Port
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.tracking import StateKind
from undercroft.model.filter import FilterState
from undercroft.usecases.firewall.surrounding import AGAIN_EVERY_S, LOOK_EVERY_S, Around, Ground

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MAC = bytes.fromhex("525400000001")
PORT = Port("m1", "web01", "vnet0", MAC, (IPv4Address("10.0.0.1"),), labels=frozenset({"web"}), host="h")
STATE = FilterState("h", 1, "d", 7, 1, NOW, "", NOW)
CLEAN = Surroundings(TABLE_NAME)
PASSED_BY = replace(CLEAN, encapsulations=("seg6",))
UNTOLD = replace(CLEAN, unread=("tc: it cannot be read",))


class Host:
    """A host whose surroundings are what the test says; `seconds` is its clock."""

    def __init__(self) -> None:
        self.facts = CLEAN
        self.seconds = 1000.0
        self.looks = 0
        self.asked: tuple[Any, ...] = ()
        self.filter = MemoryFilter()
        fleet = Fleet("h", ports=(PORT,))
        ruleset = compile_ruleset(
            FirewallPolicy(), fleet, assigned(Classes(), [PORT.labels]), StateKind.TUPLES
        )
        self.filter.replace(ruleset)
        self.around = Around(Ground(self.filter, self.gather), lambda: NOW, lambda: self.seconds)

    def gather(
        self,
        table: str,
        taps: Collection[str],
        priorities: Collection[tuple[str, int]],
        macs: Mapping[str, bytes],
    ) -> Surroundings:
        self.looks += 1
        self.asked = table, taps, priorities, macs
        return self.facts

    def look(self, after_s: float = 0.0) -> str:
        self.seconds += after_s
        return self.around.look((PORT,))


@pytest.fixture
def host() -> Iterator[Host]:
    return Host()


def test_it_is_looked_at_with_the_table_s_own_priorities_and_the_machines_ports(host: Host) -> None:
    host.look()
    table, taps, priorities, macs = host.asked
    assert (table, taps, macs) == (TABLE_NAME, {"vnet0"}, {"vnet0": MAC})
    assert "forward" in dict(priorities)


def test_nothing_found_is_told_with_its_time(host: Host) -> None:
    assert host.look() == ""
    assert host.around.noted(STATE) == replace(STATE, around_at=NOW)
    assert host.around.problem == ""


def test_what_defeats_the_table_is_news_once_and_a_problem_until_it_is_gone(host: Host) -> None:
    host.facts = PASSED_BY
    assert "seg6" in host.look()
    assert host.look(AGAIN_EVERY_S) == ""
    assert "seg6" in host.around.problem
    state = host.around.noted(STATE)
    assert state.voided
    assert state.findings
    host.facts = CLEAN
    host.look(AGAIN_EVERY_S)
    assert host.around.problem == ""
    assert not host.around.noted(STATE).voided


def test_what_could_not_be_told_is_a_problem_and_no_alarm(host: Host) -> None:
    host.facts = UNTOLD
    assert host.look() == ""
    assert "tc: it cannot be read" in host.around.problem
    assert not host.around.noted(STATE).voided


def test_it_is_looked_at_when_it_is_due_and_sooner_while_something_is_wrong(host: Host) -> None:
    host.look()
    host.look(1)
    assert host.looks == 1
    host.facts = PASSED_BY
    host.look(LOOK_EVERY_S)
    host.look(AGAIN_EVERY_S)
    assert host.looks == 3


def test_what_stays_untold_is_looked_for_ever_more_seldom_and_news_soon_again(host: Host) -> None:
    """On a host where it can never be told, the whole table would be proven twice a minute for ever."""
    host.facts = UNTOLD
    host.look()
    seen = []
    for _ in range(6):
        seen.append(host.around.every_s)
        host.look(host.around.every_s)
    assert seen == [30, 60, 120, 240, 300, 300]
    host.facts = replace(UNTOLD, unread=("links: they cannot be read",))
    host.look(LOOK_EVERY_S)
    assert host.around.every_s == AGAIN_EVERY_S
    host.facts = CLEAN
    host.look(AGAIN_EVERY_S)
    assert host.around.every_s == LOOK_EVERY_S


def test_what_defeats_the_table_is_looked_at_as_often_for_as_long_as_it_is_there(host: Host) -> None:
    host.facts = PASSED_BY
    for _ in range(4):
        host.look(LOOK_EVERY_S)
        assert host.around.every_s == AGAIN_EVERY_S


def test_a_look_while_others_change_tables_is_repeated(host: Host) -> None:
    gather = host.gather

    def changing(*asked: object) -> Surroundings:
        if not host.looks:
            host.filter.interfere(host.filter.read(TABLE_NAME))
        return gather(*asked)  # type: ignore[arg-type]

    around = Around(Ground(host.filter, changing), lambda: NOW)
    around.look((PORT,))
    assert host.looks == 2


def test_without_a_table_or_anything_to_look_with_nothing_is_claimed(host: Host) -> None:
    host.filter.delete(TABLE_NAME)
    with pytest.raises(NotFoundError):
        host.look()
    assert host.around.noted(STATE) == STATE
    blind = Around(None, lambda: NOW)
    assert blind.look((PORT,)) == ""
    assert blind.noted(STATE) == STATE
