"""Which machines a host's filter knows: addresses and their owners, labels, and where a machine is."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memoryrecords import MemoryRecords
from recordvalues import NOW, domain, execution, judgement, later, subject, survey, uuid
from sqlalchemy import event

from undercroft.firewall.fleet import Elsewhere, Port, check_fleet
from undercroft.firewall.policy import FirewallPolicy, LabelRule, NamedAddresses
from undercroft.model.domain import Domain, Interface, Ownership, Power
from undercroft.model.execution import Origin
from undercroft.model.fleet import Hold
from undercroft.model.verdict import SubjectKind, Verdict
from undercroft.ports.records import Record, Records
from undercroft.steady.policy import Match
from undercroft.store.fleet.records import SqlRecords, open_records
from undercroft.usecases.firewall.claims import Named
from undercroft.usecases.firewall.look import Look
from undercroft.usecases.firewall.machines import Gathered, Gatherer, gather, gathered

HOST, OTHER = "host1", "host2"
QUARANTINE = LabelRule("quarantine", Match(), (Verdict.QUARANTINED,))
POLICY = FirewallPolicy(
    labels=(
        LabelRule("web", Match(names=("web*",))),
        LabelRule("prod", Match(labels=("prod",))),
        LabelRule("lab", Match(networks=("lab",), hosts=(OTHER,))),
        LabelRule("drifting", Match(), (Verdict.DRIFTING,)),
        LabelRule("reverted", Match(), origins=(Origin.REVERT,)),
        QUARANTINE,
    )
)


def mac(number: int, nic: int = 0) -> str:
    return f"52:54:00:00:{nic:02x}:{number:02x}"


def nic(number: int, *addresses: str, index: int = 0, tap: str = "", **changes: object) -> Interface:
    plain = Interface(
        mac(number, index), "network", "lab", "virbr7", tap or f"vnet{number}{index}", addresses
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def machine(
    number: int, *nics: Interface, name: str = "", addresses: Sequence[str] = (), **changes: object
) -> Domain:
    """Return a machine that runs; its one interface is on "lab" where none is given."""
    return domain(
        number,
        name or f"web{number:02}",
        **{
            "power": Power.RUNNING,
            "libvirt_id": number,
            "interfaces": nics or (nic(number),),
            "ownership": Ownership(addresses=tuple(addresses)),
            **changes,
        },
    )


def off(found: Domain) -> Domain:
    """Return the machine as it is when it is off: libvirt names no taps then."""
    nics = tuple(replace(item, tap="") for item in found.interfaces)
    return replace(found, power=Power.OFF, libvirt_id=0, interfaces=nics)


def put(record: Record, *machines: Domain, host: str = HOST, at: datetime = NOW) -> None:
    """Put running machines, and those that are off, on record one by one."""
    for found in machines:
        record.put_domain(host, found.uuid, found, at)
        if found.power.has_process:
            number = int(found.uuid[-6:], 16)
            begun = execution(number, found.uuid, host=host, origin=Origin.START, started_at=at)
            record.put_execution(begun)


def look(
    records: Records,
    policy: FirewallPolicy = POLICY,
    host: str = HOST,
    own: Sequence[str] = (),
    arriving: frozenset[str] = frozenset(),
) -> Gathered:
    with records.reading() as record:
        found = gathered(record, policy, host, tuple(map(ip_address, own)), arriving)
    check_fleet(found.fleet)
    return found


def named(name: str, *networks: str) -> FirewallPolicy:
    addresses = NamedAddresses(name, tuple(map(ip_network, networks)), "policy.yaml:3")
    return replace(POLICY, addresses=(addresses,))


def ports(found: Gathered) -> dict[str, tuple[str, ...]]:
    """Return each port's addresses, by tap."""
    return {port.tap: tuple(map(str, (*port.ipv4, *port.ipv6))) for port in found.fleet.ports}


def elsewhere(found: Gathered) -> dict[str, tuple[str, ...]]:
    return {one.name: tuple(map(str, one.addresses)) for one in found.fleet.elsewhere}


@pytest.fixture
def records() -> MemoryRecords:
    return MemoryRecords()


def test_machines_that_run_here_are_ports_and_all_others_with_addresses_are_elsewhere(
    records: MemoryRecords,
) -> None:
    with records.transaction() as record:
        put(record, machine(1, nic(1, "192.0.2.1", "2001:db8::1")), off(machine(2, nic(2, "192.0.2.2"))))
        put(record, machine(3, nic(3, "192.0.2.3")), machine(4), host=OTHER)
        put(record, machine(5, nic(5, kind="user", tap=""), addresses=["192.0.2.5"]))
    found = look(records, own=["192.0.2.254", "fe80::1", "192.0.2.254"])
    assert found.problems == ()
    assert found.fleet.host_addresses == (IPv4Address("192.0.2.254"), IPv6Address("fe80::1"))
    assert found.fleet.ports == (
        Port(
            machine=uuid(1),
            name="web01",
            tap="vnet10",
            mac=bytes.fromhex("525400000001"),
            ipv4=(IPv4Address("192.0.2.1"),),
            ipv6=(IPv6Address("2001:db8::1"),),
            labels=frozenset({"web"}),
            host=HOST,
        ),
    )
    labels = frozenset({"web"})
    assert found.fleet.elsewhere == (
        Elsewhere(uuid(2), "web02", (IPv4Address("192.0.2.2"),), labels, HOST),
        Elsewhere(uuid(3), "web03", (IPv4Address("192.0.2.3"),), labels | {"lab"}, OTHER),
        Elsewhere(uuid(5), "web05", (IPv4Address("192.0.2.5"),), labels, HOST),
    )
    assert set(found.labels) == {uuid(number) for number in range(1, 6)}


def test_the_policys_addresses_count_before_the_metadatas_and_these_before_reservations(
    records: MemoryRecords,
) -> None:
    with records.transaction() as record:
        put(record, machine(1, nic(1, "192.0.2.3"), addresses=["192.0.2.2"]))
    assert ports(look(records, named("web01", "192.0.2.1", "2001:db8::1"))) == {
        "vnet10": ("192.0.2.1", "2001:db8::1")
    }
    assert ports(look(records)) == {"vnet10": ("192.0.2.2",)}
    with records.transaction() as record:
        put(record, machine(1, nic(1, "192.0.2.3")))
    assert ports(look(records)) == {"vnet10": ("192.0.2.3",)}


def test_addresses_are_on_the_interface_that_is_named_else_on_the_first(records: MemoryRecords) -> None:
    first = nic(1, "198.51.100.1", index=0)
    second = nic(1, "192.0.2.1", index=1)
    addresses = ["192.0.2.8", f"192.0.2.9@{second.mac}"]
    with records.transaction() as record:
        put(record, machine(1, first, second))
        put(
            record,
            machine(2, nic(2), nic(2, index=1), addresses=[a.replace(":01:01", ":01:02") for a in addresses]),
        )
    assert ports(look(records)) == {
        "vnet10": ("198.51.100.1",),
        "vnet11": ("192.0.2.1",),
        "vnet20": ("192.0.2.8",),
        "vnet21": ("192.0.2.9",),
    }
    by_policy = look(records, named("web01", "192.0.2.1", "192.0.2.7"))
    assert (ports(by_policy)["vnet10"], ports(by_policy)["vnet11"]) == (("192.0.2.7",), ("192.0.2.1",))


def test_an_interface_that_no_tap_carries_has_no_addresses_of_the_others(records: MemoryRecords) -> None:
    direct = nic(1, index=1, kind="direct", source="", tap="macvtap0")
    with records.transaction() as record:
        put(record, machine(1, direct, nic(1), addresses=["192.0.2.1", f"192.0.2.2@{direct.mac}"]))
    found = look(records)
    assert ports(found) == {"vnet10": ("192.0.2.1",)}
    (problem,) = found.problems
    assert problem.startswith(f"web01: address 192.0.2.2 is on interface {direct.mac}, which has no tap")


@pytest.mark.parametrize(
    ("policy", "addresses", "told"),
    [
        (
            named("web01", "192.0.2.0/24"),
            [],
            "web01: policy.yaml:3: network 192.0.2.0/24: a machine has single",
        ),
        (named("web01", "224.0.0.9"), [], "web01: policy.yaml:3: address 224.0.0.9: no machine can have it"),
        (
            replace(POLICY, addresses=(NamedAddresses("web01", (ip_network("192.0.2.0/31"),)),)),
            [],
            "web01: the policy's addresses: network 192.0.2.0/31",
        ),
        (POLICY, ["192.0.2.1@52:54:00:00:00:99"], "none of its interfaces has MAC 52:54:00:00:00:99"),
        (POLICY, ["nonsense"], "web01: metadata: address 'nonsense'"),
    ],
)
def test_what_is_wrong_closes_that_machine_alone_and_is_told_with_its_cure(
    records: MemoryRecords, policy: FirewallPolicy, addresses: list[str], told: str
) -> None:
    with records.transaction() as record:
        put(record, machine(1, nic(1, "192.0.2.3"), addresses=addresses), machine(2, nic(2, "192.0.2.4")))
    found = look(records, policy)
    assert ports(found) == {"vnet10": (), "vnet20": ("192.0.2.4",)}
    (problem,) = found.problems
    assert told in problem


def test_metadata_that_cannot_be_read_says_nothing_and_reservations_do_not_stand_in(
    records: MemoryRecords,
) -> None:
    with records.transaction() as record:
        put(record, machine(1, nic(1, "192.0.2.3"), ownership=Ownership(problem="metadata: two; mend it")))
    found = look(records)
    assert ports(found) == {"vnet10": ()}
    assert found.problems == ("web01: it has no addresses, for nobody can read them: metadata: two; mend it",)
    assert ports(look(records, named("web01", "192.0.2.1"))) == {"vnet10": ("192.0.2.1",)}


# One address, one MAC, one tap: who has it


def _taken(records: MemoryRecords) -> None:
    """An old machine claims by its metadata what a younger one has had since it was made."""
    with records.transaction() as record:
        put(record, machine(1, name="thief"))
        put(record, machine(2, nic(2, "192.0.2.2"), name="victim"), at=later(60))
        put(record, machine(1, name="thief", addresses=["192.0.2.2", "192.0.2.1"]), at=later(120))


def test_whoever_changes_an_old_machine_takes_no_address_from_a_younger_one(records: MemoryRecords) -> None:
    _taken(records)
    found = look(records)
    assert ports(found) == {"vnet10": ("192.0.2.1",), "vnet20": ("192.0.2.2",)}
    assert found.problems == (
        "thief: address 192.0.2.2 is victim's, which has it longer; thief goes without it: give it another "
        "one: undercroft machine thief --address ADDRESS, or under the policy's addresses",
    )


def test_control_by_the_time_when_machines_were_first_seen_the_theft_would_succeed(
    records: MemoryRecords,
) -> None:
    _taken(records)
    with records.reading() as record:
        seen = Look.at(record)
    forgetful = tuple(
        replace(one, since=dict.fromkeys(one.since, one.since[one.interfaces[0].mac]))
        for one in seen.machines
    )
    found = gather(replace(seen, machines=forgetful), POLICY, HOST, ())
    assert ports(found) == {"vnet10": ("192.0.2.1", "192.0.2.2"), "vnet20": ()}


def test_the_policys_word_gives_an_address_to_its_machine_however_young(records: MemoryRecords) -> None:
    _taken(records)
    found = look(records, named("thief", "192.0.2.2"))
    assert ports(found) == {"vnet10": ("192.0.2.2",), "vnet20": ()}
    assert found.problems[0].startswith("victim: address 192.0.2.2 is thief's, whom the policy names;")


def test_a_machine_of_another_host_or_one_that_is_off_keeps_its_address_too(records: MemoryRecords) -> None:
    with records.transaction() as record:
        put(record, off(machine(1, nic(1, "192.0.2.1"))))
        put(record, machine(2, nic(2, "192.0.2.2")), host=OTHER)
        put(record, machine(3, addresses=["192.0.2.1", "192.0.2.2", "192.0.2.3"]), at=later(1))
    for host in (HOST, OTHER, "third"):  # all hosts think alike
        found = look(records, host=host)
        everything = ports(found) | elsewhere(found)
        assert sorted(filter(None, everything.values())) == [("192.0.2.1",), ("192.0.2.2",), ("192.0.2.3",)]
        assert len(found.problems) == 2


def test_the_hosts_own_address_is_no_machines(records: MemoryRecords) -> None:
    with records.transaction() as record:
        put(record, machine(1, addresses=["192.0.2.1", "192.0.2.254"]))
    found = look(records, named("web01", "192.0.2.1", "192.0.2.254"), own=["192.0.2.254"])
    assert ports(found) == {"vnet10": ("192.0.2.1",)}
    assert found.problems == (
        "web01: address 192.0.2.254 is that of host host1 itself; give it another one under the policy's "
        "addresses",
    )


def test_of_two_with_one_mac_the_later_one_is_closed_unless_the_policy_names_it(
    records: MemoryRecords,
) -> None:
    with records.transaction() as record:
        put(record, machine(2, nic(2, "192.0.2.2")))
        put(record, machine(1, nic(2, "192.0.2.1", tap="vnet7"), nic(1, index=1)), at=later(1))
    found = look(records)
    assert ports(found) == {"vnet20": ("192.0.2.2",), "vnet11": ()}
    assert found.problems == (
        f"web01: vnet7 is closed: its MAC {mac(2)} is web02's, which has it longer; give one of them another "
        "MAC with virsh edit",
    )
    assert elsewhere(found) == {}  # nor are its addresses anybody's who sends from outside
    assert ports(look(records, named("web01", "192.0.2.1"))) == {"vnet7": ("192.0.2.1",), "vnet11": ()}


def test_a_machine_whose_tap_is_called_as_an_uplink_is_closed(records: MemoryRecords) -> None:
    with records.transaction() as record:
        put(record, machine(1, nic(1, tap="eth7")), machine(2))
    policy = replace(POLICY, ports=replace(POLICY.ports, uplinks=("eth0", "eth7")))
    found = look(records, policy)
    assert ports(found) == {"vnet20": ()}
    assert found.problems == (
        "web01: eth7 is closed: it is called as an uplink of the policy is (ports.uplinks): give it another "
        "name (target dev) with virsh edit",
    )
    assert set(ports(look(records))) == {"eth7", "vnet20"}


def test_a_machine_with_the_hosts_mac_is_closed(records: MemoryRecords) -> None:
    with records.transaction() as record:
        put(record, machine(1))
    found = look(records, own=["fe80::5054:ff:fe00:1"])
    assert ports(found) == {}
    assert found.problems == (
        f"web01: vnet10 is closed: MAC {mac(1)} is the host's: change it with virsh edit",
    )


def test_a_tap_is_that_of_the_machine_that_began_last(records: MemoryRecords) -> None:
    """The end of the first was not seen: the kernel has given its tap's name to the second since."""
    with records.transaction() as record:
        put(record, machine(1, nic(1, tap="vnet0")))
        put(record, machine(2, nic(2, tap="vnet0")), at=later(60))
    found = look(records)
    assert [(port.name, port.tap) for port in found.fleet.ports] == [("web02", "vnet0")]
    assert found.problems[0].startswith("web01: vnet0 is web02's by now, whose execution began later;")


@pytest.mark.parametrize(
    "bad",
    [{"mac": ""}, {"mac": "01:00:5e:00:00:01"}, {"mac": "x"}, {"tap": "x" * 16}, {"tap": "\udcff"}],
)
def test_an_interface_that_no_machine_can_have_is_closed(records: MemoryRecords, bad: dict[str, str]) -> None:
    with records.transaction() as record:
        put(record, machine(1, nic(1, "192.0.2.1", **bad)), machine(2))
    found = look(records)
    assert ports(found) == {"vnet20": ()}
    assert any(problem.startswith("web01: ") and "closed" in problem for problem in found.problems)


# Where a machine is


def test_labels_end_with_the_execution_though_the_record_names_the_tap_still(records: MemoryRecords) -> None:
    with records.transaction() as record:
        put(record, machine(1, nic(1, "192.0.2.1")))
        record.put_execution(execution(1, uuid(1), ended_at=later(5), ending="stopped"))
    found = look(records)
    assert (ports(found), elsewhere(found)) == ({}, {"web01": ("192.0.2.1",)})


def test_a_machine_that_was_never_surveyed_as_running_is_a_port_as_soon_as_its_execution_is_there(
    records: MemoryRecords,
) -> None:
    with records.transaction() as record:
        put(record, machine(1))
        record.put_domain(HOST, uuid(1), replace(machine(1), power=Power.OFF), NOW)
    assert ports(look(records)) == {"vnet10": ()}


def test_a_machine_that_arrives_is_a_port_here_and_one_there_until_it_has_left(
    records: MemoryRecords,
) -> None:
    moving = machine(1, nic(1, "192.0.2.1"))
    arriving = frozenset({uuid(1)})
    with records.transaction() as record:
        put(record, moving, host=OTHER)
        record.put_domain(HOST, uuid(1), replace(moving, power=Power.OFF), later(1))
    assert elsewhere(look(records)) == {"web01": ("192.0.2.1",)}
    (port,) = look(records, arriving=arriving).fleet.ports
    assert (port.arriving, port.host, tuple(map(str, port.ipv4))) == (True, HOST, ("192.0.2.1",))
    (source,) = look(records, host=OTHER).fleet.ports
    assert (source.arriving, source.labels) == (False, {"web", "lab"})
    assert elsewhere(look(records, arriving=arriving)) == elsewhere(look(records, host=OTHER)) == {}
    with records.transaction() as record:
        begun = execution(9, uuid(1), origin=Origin.MIGRATE, started_at=later(2))
        record.put_execution(begun)
    for host in (HOST, OTHER):  # both have it on record as living with them
        assert [port.arriving for port in look(records, host=host).fleet.ports] == [False]
    assert elsewhere(look(records, host="third")) == {"web01": ("192.0.2.1",)}
    with records.transaction() as record:
        record.put_execution(execution(1, uuid(1), host=OTHER, ended_at=later(3), ending="migrated"))
    assert elsewhere(look(records, host=OTHER)) == {"web01": ("192.0.2.1",)}
    assert look(records, host=OTHER).fleet.elsewhere[0].host == HOST


def test_a_machine_that_comes_has_what_its_network_reserved_where_it_was_until_libvirt_is_asked_here(
    records: MemoryRecords,
) -> None:
    """The hook's XML has no reservations: without those of the source it would arrive without addresses."""
    here = machine(1, nic(1))
    with records.transaction() as record:
        put(record, machine(1, nic(1, "192.0.2.1")), host=OTHER)
        put(record, machine(2, addresses=["192.0.2.1"]), at=later(1))  # a thief who waits for the moment
        record.put_domain(HOST, uuid(1), here, later(2))
    arriving = frozenset({uuid(1)})
    assert ports(look(records, arriving=arriving)) == {"vnet10": ("192.0.2.1",), "vnet20": ()}
    with records.transaction() as record:
        record.put_execution(execution(9, uuid(1), origin=Origin.MIGRATE, started_at=later(3)))
    assert ports(look(records)) == {"vnet10": ("192.0.2.1",), "vnet20": ()}
    with records.transaction() as record:
        record.put_domain(HOST, uuid(1), machine(1, nic(1, "192.0.2.9")), later(4))
    assert ports(look(records))["vnet10"] == ("192.0.2.9",)


def _owners(found: Gathered) -> dict[str, tuple[str, ...]]:
    """Return what machines have, by UUID, as one host sees it."""
    owners = {one.machine: tuple(map(str, one.ipv4)) for one in found.fleet.ports}
    return owners | {one.machine: tuple(map(str, one.addresses)) for one in found.fleet.elsewhere}


def test_a_machine_that_is_migrated_has_the_same_addresses_to_all(records: MemoryRecords) -> None:
    with records.transaction() as record:
        put(record, machine(1, nic(1, "192.0.2.1")), host=HOST)
        put(record, machine(2, addresses=["192.0.2.1"]), host=HOST)
        record.put_domain(OTHER, uuid(1), machine(1, nic(1, "192.0.2.7")), later(5))
        record.put_execution(execution(5, uuid(1), origin=Origin.MIGRATE, host=OTHER))
    for host in (HOST, OTHER, "third"):
        found = look(records, host=host, arriving=frozenset({uuid(1)} if host == OTHER else ()))
        assert _owners(found) == {uuid(1): ("192.0.2.7",), uuid(2): ("192.0.2.1",)}


# One UUID on two hosts


@pytest.mark.parametrize("origin", [Origin.START, Origin.UNKNOWN, Origin.RESTORE])
def test_a_machine_with_the_uuid_of_another_host_s_takes_nothing_from_it(
    records: MemoryRecords, origin: Origin
) -> None:
    """Whoever may define machines on one host would else have what any machine of any host has."""
    with records.transaction() as record:
        put(record, machine(1, nic(1, "192.0.2.1"), name="db01"))
    with records.transaction() as record:
        thief = machine(1, nic(9, "192.0.2.7", tap="vnet9"), name="web09", addresses=["192.0.2.1"])
        record.put_domain(OTHER, uuid(1), thief, later(9))
        record.put_execution(execution(9, uuid(1), origin=origin, host=OTHER))
    for host in (HOST, OTHER, "third"):
        found = look(records, host=host)
        assert _owners(found) == {uuid(1): ("192.0.2.1",)}
        assert found.labels[uuid(1)] == frozenset(), "it would be web"
        assert found.problems == (
            "web09: it is closed on host2, where it was not migrated to: its UUID is that of db01 on host1; "
            "undefine one of them, or define it anew with another UUID; if host1 is gone for good: "
            "undercroft host forget host1 --reason TEXT",
        )
    assert look(records, host=OTHER).fleet.ports == ()
    assert short(records, uuid(1), host=OTHER) == ((), look(records, host=OTHER).problems)


def test_it_takes_nothing_either_from_one_that_is_off_or_by_migrating_on(records: MemoryRecords) -> None:
    true, thief = machine(1, nic(1, "192.0.2.1")), machine(1, nic(9, "192.0.2.1", tap="vnet9"))
    with records.transaction() as record:
        put(record, true)
    with records.transaction() as record:
        record.put_domain(OTHER, uuid(1), thief, later(9))
        record.put_execution(execution(9, uuid(1), host=OTHER, origin=Origin.START))
    with records.transaction() as record:
        record.put_domain("third", uuid(1), thief, later(10))
        record.put_execution(execution(10, uuid(1), host="third", origin=Origin.MIGRATE))
    assert look(records, host="third").fleet.ports == look(records, host=OTHER).fleet.ports == ()
    with records.transaction() as record:
        record.put_domain(HOST, uuid(1), off(true), later(11))
        for number in (1, 9):
            ended = execution(number, uuid(1), host=(HOST, OTHER)[number > 1], ended_at=later(11))
            record.put_execution(replace(ended, ending="stopped", origin=Origin.START))
    found = look(records, host="third")
    assert (found.fleet.ports, elsewhere(found)) == ((), {"web01": ("192.0.2.1",)})
    with records.transaction() as record:  # its owner undefines what it was
        record.put_domain(HOST, uuid(1), None, later(12))
        record.put_domain(OTHER, uuid(1), None, later(12))
    assert ports(look(records, host="third")) == {"vnet9": ("192.0.2.1",)}


def test_a_machine_that_was_migrated_stays_the_same_where_it_is_started_again(records: MemoryRecords) -> None:
    moving = machine(1, nic(1, "192.0.2.1"))
    with records.transaction() as record:
        put(record, moving)
    with records.transaction() as record:
        record.put_domain(OTHER, uuid(1), moving, later(5))
        record.put_execution(execution(5, uuid(1), host=OTHER, origin=Origin.MIGRATE))
        record.put_domain(HOST, uuid(1), off(moving), later(6))
        ended = execution(1, uuid(1), host=HOST, origin=Origin.START, started_at=NOW, ended_at=later(6))
        record.put_execution(replace(ended, ending="migrated"))
        came = execution(5, uuid(1), host=OTHER, origin=Origin.MIGRATE, ended_at=later(7))
        record.put_execution(replace(came, ending="stopped"))
    with records.transaction() as record:
        record.put_domain(OTHER, uuid(1), moving, later(8))
        record.put_execution(execution(8, uuid(1), host=OTHER, origin=Origin.START))
    found = look(records, host=OTHER)
    assert (ports(found), found.problems) == ({"vnet10": ("192.0.2.1",)}, ())
    with records.transaction() as record:  # where it was before somebody starts it once more
        record.put_domain(HOST, uuid(1), replace(moving, name="web09"), later(9))
        record.put_execution(execution(9, uuid(1), host=HOST, origin=Origin.START))
    for host in (HOST, OTHER):
        found = look(records, host=host)
        assert _owners(found) == {uuid(1): ("192.0.2.1",)}
        assert [problem.split(":")[0] for problem in found.problems] == ["web09"]
    assert look(records).fleet.ports == ()


def test_of_two_machines_with_one_mac_on_two_hosts_the_later_one_is_closed(records: MemoryRecords) -> None:
    with records.transaction() as record:
        put(record, machine(2, nic(2, "192.0.2.2")), host=OTHER)
    with records.transaction() as record:
        put(record, machine(1, nic(2, "192.0.2.1", tap="vnet7"), nic(1, index=1)))
    found = look(records)
    assert ports(found) == {"vnet11": ()}
    assert found.problems == (
        f"web01: vnet7 is closed: its MAC {mac(2)} is web02's on host2, which has it longer; give one of them"
        " another MAC with virsh edit; if host2 is gone for good: undercroft host forget host2 --reason TEXT",
    )
    assert ports(look(records, host=OTHER)) == {"vnet20": ("192.0.2.2",)}
    by_policy = named("web01", "192.0.2.1")
    assert ports(look(records, by_policy)) == {"vnet7": ("192.0.2.1",), "vnet11": ()}
    assert ports(look(records, by_policy, OTHER)) == {}
    with records.transaction() as record:  # it is off: nobody sends with its MAC
        ended = execution(2, uuid(2), host=OTHER, origin=Origin.START, started_at=NOW, ended_at=later(3))
        record.put_execution(replace(ended, ending="stopped"))
    assert ports(look(records)) == {"vnet7": ("192.0.2.1",), "vnet11": ()}


# Labels


def _labels(records: MemoryRecords, host: str = HOST) -> set[str]:
    return set(look(records, host=host).labels[uuid(1)])


def _judged(record: Record, verdict: Verdict, kind: SubjectKind = SubjectKind.MACHINE) -> None:
    key = f"{kind}:{uuid(1)}"
    record.put_subject(subject(key, kind=kind, machine=uuid(1)))
    record.put_judgements([judgement(key, verdict=verdict)])


def test_labels_follow_name_metadata_host_and_networks(records: MemoryRecords) -> None:
    with records.transaction() as record:
        put(record, machine(1, ownership=Ownership(labels=("prod",))), host=OTHER)
    assert _labels(records) == {"web", "prod", "lab"}


def test_labels_follow_verdict_and_origin_of_the_live_execution(records: MemoryRecords) -> None:
    with records.transaction() as record:
        put(record, machine(1))
        _judged(record, Verdict.DRIFTING)
        record.put_execution(execution(1, uuid(1), origin=Origin.REVERT))
    assert _labels(records) == {"web", "drifting", "reverted"}
    with records.transaction() as record:
        record.put_execution(execution(1, uuid(1), origin=Origin.REVERT, ended_at=later(1), ending="stopped"))
    assert _labels(records) == {"web", "drifting"}


def test_a_templates_verdict_is_that_of_the_template(records: MemoryRecords) -> None:
    with records.transaction() as record:
        put(record, off(machine(1, ownership=Ownership(template=True))))
        _judged(record, Verdict.DRIFTING, SubjectKind.TEMPLATE)
    assert _labels(records) == {"web", "drifting"}


@pytest.mark.parametrize("by_filter", [False, True])
def test_a_machine_in_quarantine_has_its_labels_alone(records: MemoryRecords, by_filter: bool) -> None:
    with records.transaction() as record:
        put(record, machine(1, nic(1, "192.0.2.1"), ownership=Ownership(labels=("prod",))))
        _judged(record, Verdict.STEADY)  # from before
        record.put_hold(Hold(uuid(1), "", (), "r", NOW, False, by_filter))
    assert _labels(records) == {"quarantine"}
    assert look(records).fleet.ports[0].labels == {"quarantine"}


def test_a_hold_that_is_pending_is_no_quarantine(records: MemoryRecords) -> None:
    with records.transaction() as record:
        put(record, machine(1))
        record.put_hold(Hold(uuid(1), "", (), "r", NOW, True))
    assert _labels(records) == {"web"}


def test_a_machine_that_was_released_is_free_before_it_is_judged_anew(records: MemoryRecords) -> None:
    with records.transaction() as record:
        put(record, machine(1))
        _judged(record, Verdict.QUARANTINED)
        record.put_hold(Hold(uuid(1), "", (), "r", NOW, False))
    assert _labels(records) == {"quarantine"}
    with records.transaction() as record:
        record.drop_hold(uuid(1), "released", later(1))
    assert _labels(records) == {"web", "drifting"}


def test_a_machine_that_is_off_and_would_start_closed_is_in_quarantine(records: MemoryRecords) -> None:
    with records.transaction() as record:
        put(record, off(machine(1)))
        _judged(record, Verdict.QUARANTINED)
    assert _labels(records) == {"quarantine"}


# One machine's ports, for its start


def short(
    records: Records,
    machine: str,
    policy: FirewallPolicy = POLICY,
    host: str = HOST,
    own: Sequence[str] = (),
    arriving: frozenset[str] = frozenset(),
) -> tuple[tuple[Port, ...], tuple[str, ...]]:
    """Return one machine's ports and problems as a start has them: from a look at few machines."""
    named = Named(policy)
    with records.reading() as record:
        gatherer = Gatherer(Look.about(record, named, machine, host), named)
    found = gatherer.at(host, tuple(map(ip_address, own)), arriving)
    return found.ports_of(machine), found.problems_of(machine)


def test_what_one_machine_has_is_found_by_looking_at_those_that_have_it_too(tmp_path: Path) -> None:
    with closing(open_records(str(tmp_path / "fleet.db"))) as records:
        with records.transaction() as record:
            others = (machine(number, nic(number, f"192.0.2.{number}")) for number in range(10, 60))
            record.put_survey(survey(machine(2, nic(2, "192.0.2.2")), *others))
            for number in (2, *range(10, 60)):
                record.put_execution(execution(number, uuid(number)))
        with records.transaction() as record:
            put(
                record, machine(1, nic(1, "192.0.2.1"), nic(1, index=1), addresses=["192.0.2.2", "192.0.2.3"])
            )
        found, problems = short(records, uuid(1))
        assert [(port.tap, tuple(map(str, port.ipv4))) for port in found] == [
            ("vnet10", ("192.0.2.3",)),
            ("vnet11", ()),
        ]
        assert [problem.split(";")[0] for problem in problems] == [
            "web01: address 192.0.2.2 is web02's, which has it longer"
        ]
        with records.reading() as record:
            looked = Look.about(record, Named(POLICY), uuid(1), HOST)
        assert {one.uuid for one in looked.machines} == {uuid(1), uuid(2)}


# Whatever is on record


_ADDRESSES = st.lists(
    st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.254", "2001:db8::1", "x", "fe80::1"]), max_size=3
)
_NICS = st.builds(
    lambda number, tap, kind, addresses: Interface(mac(number), kind, "lab", "virbr7", tap, tuple(addresses)),
    st.integers(0, 3),
    st.sampled_from(["", "vnet0", "vnet1", "vnet2", "x" * 16]),
    st.sampled_from(["network", "bridge", "user"]),
    _ADDRESSES,
)
_MACHINES = st.builds(
    lambda number, nics, metadata, power: domain(
        number,
        f"web{number % 2}",
        power=power,
        interfaces=tuple(nics),
        ownership=Ownership(addresses=tuple(metadata)),
    ),
    st.integers(0, 3),
    st.lists(_NICS, max_size=3),
    _ADDRESSES,
    st.sampled_from(Power),
)


@dataclass(frozen=True)
class Lived:
    """One machine that was put on record of a host, and how its execution began there and ended."""

    machine: Domain
    host: str
    minutes: int
    origin: Origin
    ending: str


_LIVED = st.builds(
    Lived,
    _MACHINES,
    st.sampled_from([HOST, OTHER]),
    st.integers(0, 3),
    st.sampled_from([Origin.START, Origin.START, Origin.MIGRATE]),
    st.sampled_from(["", "", "migrated", "stopped"]),
)


def _live(records: Records, lives: Sequence[Lived]) -> None:
    for number, one in enumerate(lives):
        with records.transaction() as record:
            record.put_domain(one.host, one.machine.uuid, one.machine, later(one.minutes))
            ends: dict[str, object] = {}
            if one.ending:
                ends = {"ending": one.ending, "ended_at": later(100)}
            changes = {"host": one.host, "origin": one.origin, "started_at": later(one.minutes)}
            record.put_execution(execution(number, one.machine.uuid, **changes, **ends))


_POLICIES = st.sampled_from(
    [POLICY, named("web1", "192.0.2.1"), named("web0", "2001:db8::1", "192.0.2.0/24", "192.0.2.2")]
)
_ARRIVING = st.frozensets(st.sampled_from([uuid(number) for number in range(4)]))
OWN = ["192.0.2.254", f"fe80::5054:ff:fe00:{3}"]


@settings(deadline=None)
@given(lives=st.lists(_LIVED, max_size=8), policy=_POLICIES, arriving=_ARRIVING)
def test_whatever_machines_claim_each_thing_has_one_owner_and_all_hosts_agree(
    lives: list[Lived], policy: FirewallPolicy, arriving: frozenset[str]
) -> None:
    records = MemoryRecords()
    _live(records, lives)
    here = look(records, policy, own=OWN, arriving=arriving)
    there = look(records, policy, OTHER, own=OWN)
    assert set(here.labels) == set(there.labels) == {one.machine.uuid for one in lives}
    names = {one.machine.name for one in lives}
    assert all(problem.split(": ")[0] in names for problem in here.problems)
    owners = {
        address: one.machine
        for view in (here, there)
        for one in (*view.fleet.ports, *view.fleet.elsewhere)
        for address in (one.addresses if isinstance(one, Elsewhere) else (*one.ipv4, *one.ipv6))
    }
    for view in (here, there):
        for one in view.fleet.elsewhere:
            assert all(owners[address] == one.machine for address in one.addresses)
        for port in view.fleet.ports:
            assert all(owners[address] == port.machine for address in (*port.ipv4, *port.ipv6))
    if not arriving:
        macs = {(port.mac, port.machine) for view in (here, there) for port in view.fleet.ports}
        assert len({mac for mac, _ in macs}) == len(macs), "a MAC is one machine's on all hosts"


@settings(deadline=None)
@given(lives=st.lists(_LIVED, max_size=8), policy=_POLICIES, arriving=_ARRIVING, real=st.booleans())
def test_what_a_look_at_one_machine_finds_is_what_a_look_at_all_of_them_does(
    lives: list[Lived], policy: FirewallPolicy, arriving: frozenset[str], real: bool
) -> None:
    with ExitStack() as stack:
        records: Records = MemoryRecords()
        if real:
            name = stack.enter_context(TemporaryDirectory())
            records = stack.enter_context(closing(open_records(f"{name}/fleet.db")))
        _live(records, lives)
        for host in (HOST, OTHER):
            found = look(records, policy, host, OWN, arriving)
            for number in range(4):
                ports, problems = short(records, uuid(number), policy, host, OWN, arriving)
                assert ports == found.ports_of(uuid(number))
                assert problems == found.problems_of(uuid(number))


@pytest.mark.parametrize("look_at", ["all", "one"])
def test_of_two_interfaces_with_one_mac_the_first_has_it_whoever_had_their_taps_before(
    records: MemoryRecords, look_at: str
) -> None:
    mine = machine(2, replace(nic(2), tap="vnet7"), replace(nic(2, index=1), tap="vnet8", mac=mac(2)))
    with records.transaction() as record:
        put(record, machine(1, replace(nic(1), tap="vnet8")))
        put(record, mine, at=later(1))
    found = short(records, uuid(2))[0] if look_at == "one" else look(records).ports_of(uuid(2))
    assert [port.tap for port in found] == ["vnet7"]


@pytest.mark.parametrize("look_at", ["all", "one"])
def test_what_is_wrong_with_a_machine_is_told_in_its_own_order_whoever_claims_it_before(
    records: MemoryRecords, look_at: str
) -> None:
    with records.transaction() as record:
        put(record, machine(1, nic(1), addresses=["192.0.2.2"]))
        bare = replace(nic(2, "192.0.2.1", "192.0.2.2"), tap="")
        put(record, machine(2, bare, nic(2, index=1)))
    policy = named("web02", "192.0.2.1", "192.0.2.2")
    found = short(records, uuid(2), policy)[1] if look_at == "one" else ()
    told = found or look(records, policy).problems_of(uuid(2))
    assert [problem.split(" is ")[0] for problem in told] == [
        "web02: address 192.0.2.1",
        "web02: address 192.0.2.2",
    ]


def test_the_database_gathers_what_the_fake_does(tmp_path: Path) -> None:
    fake = MemoryRecords()
    with closing(open_records(str(tmp_path / "fleet.db"))) as real:
        for records in (fake, real):
            _taken(records)
            with records.transaction() as record:
                put(record, machine(3, nic(3, "192.0.2.3")), host=OTHER)
                record.put_survey(survey(machine(4, nic(4, "192.0.2.4")), host="third"))
                _judged(record, Verdict.DRIFTING)
        assert look(real) == look(fake)
        assert look(real, host="third") == look(fake, host="third")


def test_the_record_is_asked_as_often_for_one_machine_as_for_hundreds(tmp_path: Path) -> None:
    asked: list[int] = []
    with closing(open_records(str(tmp_path / "fleet.db"))) as records:
        assert isinstance(records, SqlRecords)
        statements: list[str] = []
        event.listen(records.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        for count in (1, 300):
            with records.transaction() as record:
                record.put_survey(survey(*(machine(number, nic(number % 256)) for number in range(count))))
                for number in range(count):
                    record.put_execution(execution(number, uuid(number)))
            statements.clear()
            look(records)
            asked.append(len(statements))
    assert asked[0] == asked[1]
