"""The engine on a packet filter in memory: what changes for whom, and what is remembered."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from firewallworld import FLEET, POLICY
from memoryfilter import MemoryFilter

from undercroft.assurance.firewall.certificate import Certificate
from undercroft.errors import StateError
from undercroft.usecases.firewall.enforcing import Enforcer

WEB01 = FLEET.ports[0]


def now() -> datetime:
    return datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture
def packet_filter() -> MemoryFilter:
    return MemoryFilter()


@pytest.fixture
def enforcer(packet_filter: MemoryFilter, tmp_path: Path) -> Enforcer:
    return Enforcer(packet_filter, tmp_path / "numbers", now)


def test_what_is_enforced_is_proven(enforcer: Enforcer) -> None:
    assert enforcer.recall() == ""
    done = enforcer.enforce(POLICY, FLEET)
    assert done.whole
    assert done.added > 100
    assert isinstance(enforcer.prove(), Certificate)
    assert (enforcer.policy, enforcer.fleet) == (POLICY, FLEET)


def test_a_machine_is_admitted_and_dismissed(enforcer: Enforcer) -> None:
    enforcer.enforce(POLICY, replace(FLEET, ports=FLEET.ports[1:]))
    enforcer.admit([WEB01])
    assert isinstance(enforcer.prove(), Certificate)
    assert enforcer.fleet is not None
    assert set(enforcer.fleet.ports) == set(FLEET.ports)
    enforcer.dismiss(WEB01.machine)
    assert isinstance(enforcer.prove(), Certificate)
    assert WEB01 not in enforcer.fleet.ports


def test_an_address_of_another_machine_is_admitted_to_nobody(enforcer: Enforcer) -> None:
    enforcer.enforce(POLICY, FLEET)
    for address in ("10.1.0.2", "10.1.0.20", "10.1.0.254"):
        with pytest.raises(StateError, match=f"web01: the address {address}"):
            enforcer.admit([replace(WEB01, ipv4=(IPv4Address(address),))])
