"""What every packet filter does: the kernel's, and the one in memory that other tests use for it."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from memoryfilter import MemoryFilter
from netns import in_own_network

from undercroft.adapters.nftables import Nftables
from undercroft.errors import InputError, NotFoundError, StateError
from undercroft.firewall.kernel import (
    Chain,
    Code,
    Counter,
    Hook,
    Immediate,
    Key,
    Lookup,
    Meta,
    Rule,
    Ruleset,
    SetDefinition,
    Table,
    Update,
    Verdict,
)
from undercroft.ports.packetfilter import PacketFilter, TableName

Make = Callable[[], PacketFilter]


@pytest.fixture(params=["memory", "kernel"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """What makes the filter; the kernel's is for the network namespace in which it is first asked."""
    if request.param == "memory":
        yield MemoryFilter
        return
    with Nftables() as nftables:
        yield lambda: nftables


PORTS = SetDefinition("ports", ("ifname",), "verdict", 8)
MARKS = SetDefinition("marks", ("ifname", "ether_addr"), "mark", 64)
PROTOCOLS = SetDefinition("protocols", ("inet_proto",), "", 64)
FLOWS = SetDefinition("flows", ("mark",), "", 64, dynamic=True, timeout_ms=60_000)
DROP, ACCEPT = Verdict(Code.DROP), Verdict(Code.ACCEPT)
TO_WEB = Verdict(Code.GOTO, "to-web")


def port(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


def ruleset() -> Ruleset:
    chains = (
        Chain(
            "from-port",
            (
                Rule((Meta(0, Key.INPUT_NAME), Lookup("ports", 0, verdicts=True)), "by port"),
                Rule((Meta(0, Key.MARK), Update("flows", 0, 4000), Counter(), Immediate(DROP))),
            ),
            Hook.PREROUTING,
            -400,
            Code.DROP,
        ),
        Chain("to-web", (Rule((Immediate(ACCEPT),)),)),
    )
    elements = {
        "ports": {port("vnet0"): TO_WEB, port("vnet1"): DROP},
        "marks": {port("vnet0") + bytes(8): b"\1\0\0\0"},
        "protocols": {b"\6": None, b"\x11": None},
        "flows": {},
    }
    return Ruleset(Table("undercroft", (FLOWS, MARKS, PORTS, PROTOCOLS), chains), elements)


def same(found: Ruleset, wanted: Ruleset) -> bool:
    return (found.table, found.elements) == (wanted.table, wanted.elements)


@in_own_network
def test_a_table_is_read_back_as_it_was_written(make: Make) -> None:
    packet_filter, wanted = make(), ruleset()
    made = packet_filter.replace(wanted)
    assert made == packet_filter.generation() > 0
    found = packet_filter.read("undercroft")
    assert same(found, wanted)
    assert found.generation == made
    assert packet_filter.tables() == (TableName("bridge", "undercroft"),)


@in_own_network
def test_sets_and_chains_come_by_name_in_whatever_order_they_were_written(
    make: Make,
) -> None:
    packet_filter, wanted = make(), ruleset()
    turned = replace(wanted.table, sets=wanted.table.sets[::-1], chains=wanted.table.chains[::-1])
    packet_filter.replace(replace(wanted, table=turned))
    assert same(packet_filter.read("undercroft"), wanted)


@in_own_network
def test_only_the_sets_that_are_asked_for_are_read(make: Make) -> None:
    packet_filter, wanted = make(), ruleset()
    packet_filter.replace(wanted)
    assert packet_filter.read("undercroft", sets=()).elements == {}
    assert packet_filter.read("undercroft", sets={"marks"}).elements == {"marks": wanted.elements["marks"]}
    assert packet_filter.read("undercroft", sets=()).table == wanted.table


@in_own_network
def test_what_is_there_already_makes_no_generation(make: Make) -> None:
    packet_filter, wanted = make(), ruleset()
    made = packet_filter.replace(wanted)
    assert packet_filter.replace(wanted) == 0
    assert packet_filter.change(wanted.table, {"ports": {port("vnet1"): DROP}}, {}) == 0
    assert packet_filter.generation() == made


@in_own_network
def test_elements_are_changed_in_one_transaction(make: Make) -> None:
    packet_filter, wanted = make(), ruleset()
    made = packet_filter.replace(wanted)
    changed = packet_filter.change(
        wanted.table,
        {"ports": {port("vnet0"): DROP, port("vnet2"): TO_WEB}, "protocols": {b"\1": None}},
        {"ports": [port("vnet0"), port("vnet1")]},
        made,
    )
    assert changed == made + 1
    found = packet_filter.read("undercroft").elements
    assert found["ports"] == {port("vnet0"): DROP, port("vnet2"): TO_WEB}
    assert found["protocols"] == {b"\1": None, b"\6": None, b"\x11": None}


@in_own_network
def test_a_change_that_fails_in_part_changes_nothing(make: Make) -> None:
    packet_filter, wanted = make(), ruleset()
    made = packet_filter.replace(wanted)
    adds = {"protocols": {b"\1": None}, "ports": {port("vnet0"): DROP}}
    with pytest.raises(StateError, match="766e657430"):
        packet_filter.change(wanted.table, adds, {})
    with pytest.raises(NotFoundError, match="766e657439"):
        packet_filter.change(wanted.table, {"protocols": {b"\1": None}}, {"ports": [port("vnet9")]})
    with pytest.raises(StateError, match="full"):
        packet_filter.change(wanted.table, {"ports": {port(f"tap{n}"): DROP for n in range(9)}}, {})
    assert same(packet_filter.read("undercroft"), wanted)
    assert packet_filter.generation() == made


@in_own_network
def test_values_that_no_kernel_holds_are_refused(make: Make) -> None:
    packet_filter, wanted = make(), ruleset()
    packet_filter.replace(wanted)
    for adds in (
        {"protocols": {b"\1\0\0\0": None}},
        {"ports": {b"vnet0": DROP}},
        {"ports": {port("vnet0"): None}},
        {"protocols": {b"\1": DROP}},
        {"marks": {port("vnet0") + bytes(8): DROP}},
        {"nowhere": {b"\1": None}},
    ):
        with pytest.raises(InputError):
            packet_filter.change(wanted.table, adds, {})
    with pytest.raises(InputError):
        packet_filter.replace(replace(wanted, elements={"protocols": {b"\1\2": None}}))
    assert same(packet_filter.read("undercroft"), wanted)


@in_own_network
def test_a_change_for_another_generation_is_refused(make: Make) -> None:
    packet_filter, wanted = make(), ruleset()
    old = packet_filter.replace(wanted)
    new = packet_filter.change(wanted.table, {}, {"protocols": [b"\6"]})
    with pytest.raises(StateError, match="meanwhile"):
        packet_filter.change(wanted.table, {"protocols": {b"\6": None}}, {}, old)
    with pytest.raises(StateError, match="meanwhile"):
        packet_filter.replace(wanted, old)
    with pytest.raises(StateError, match="meanwhile"):
        packet_filter.delete("undercroft", old)
    assert packet_filter.generation() == new
    assert packet_filter.replace(wanted, new) == new + 1
    assert packet_filter.delete("undercroft", new + 1) == new + 2


@in_own_network
def test_a_dynamic_set_keeps_what_is_in_it_over_a_new_policy(make: Make) -> None:
    packet_filter, wanted = make(), ruleset()
    packet_filter.replace(wanted)
    packet_filter.change(wanted.table, {"flows": {b"\1\0\0\0": None}}, {})
    fewer = replace(wanted.table, chains=(replace(wanted.table.chains[0], rules=()),))
    packet_filter.replace(Ruleset(fewer, {"flows": {b"\2\0\0\0": None}}))
    found = packet_filter.read("undercroft")
    assert found.elements["flows"] == {b"\1\0\0\0": None, b"\2\0\0\0": None}
    assert found.elements["ports"] == {}
    without = packet_filter.read("undercroft", written=False)
    assert without == replace(found, elements={k: v for k, v in found.elements.items() if k != "flows"})
    assert packet_filter.read("undercroft", ("flows", "ports"), written=False).elements == {"ports": {}}
    larger = tuple(replace(definition, size=128) for definition in fewer.sets)
    packet_filter.replace(Ruleset(replace(fewer, sets=larger)))
    assert packet_filter.read("undercroft").elements["flows"] == {}


@in_own_network
def test_elements_are_remembered_for_a_time(make: Make) -> None:
    packet_filter, wanted = make(), ruleset()
    made = packet_filter.replace(wanted)
    assert packet_filter.remember(wanted.table, {"flows": {b"\1\0\0\0": 50_000, b"\2\0\0\0": 1}}) == made + 1
    assert b"\1\0\0\0" in packet_filter.read("undercroft").elements["flows"]
    packet_filter.remember(wanted.table, {"flows": {b"\1\0\0\0": 60_000}})
    for name, timeout_ms in (("ports", 1000), ("protocols", 1000), ("flows", 0), ("nowhere", 1000)):
        with pytest.raises(InputError):
            packet_filter.remember(wanted.table, {name: {b"\1\0\0\0": timeout_ms}})
    many = {number.to_bytes(4, "big"): 1000 for number in range(65)}
    with pytest.raises(StateError, match="full"):
        packet_filter.remember(wanted.table, {"flows": many})


@in_own_network
def test_who_has_changed_a_table_is_told_without_reading_it(make: Make) -> None:
    packet_filter, wanted = make(), ruleset()
    made = packet_filter.replace(wanted)
    assert packet_filter.untouched("undercroft", made) == made
    packet_filter.replace(replace(wanted, table=replace(wanted.table, name="another")))
    own = packet_filter.change(wanted.table, {}, {"protocols": [b"\6"]})
    assert packet_filter.untouched("undercroft", made) == own == made + 2
    packet_filter.delete("undercroft")
    assert packet_filter.untouched("undercroft", made) == packet_filter.generation()
    assert packet_filter.untouched("undercroft", 0) == 0


@in_own_network
def test_single_elements_are_found(make: Make) -> None:
    packet_filter, wanted = make(), ruleset()
    packet_filter.replace(wanted)
    keys = {"ports": [port("vnet0"), port("vnet9")], "protocols": [b"\1", b"\6"]}
    assert packet_filter.find(wanted.table, keys) == {
        "ports": {port("vnet0"): TO_WEB},
        "protocols": {b"\6": None},
    }
    with pytest.raises(InputError, match="no set 'nowhere'"):
        packet_filter.find(wanted.table, {"nowhere": [b"\6"]})
    elsewhere = replace(wanted.table, name="elsewhere")
    with pytest.raises(NotFoundError):
        packet_filter.find(elsewhere, {"protocols": [b"\6"]})


@in_own_network
def test_what_is_not_there_is_told(make: Make) -> None:
    packet_filter, wanted = make(), ruleset()
    with pytest.raises(NotFoundError, match="undercroft"):
        packet_filter.read("undercroft")
    with pytest.raises(NotFoundError, match="undercroft"):
        packet_filter.delete("undercroft")
    with pytest.raises(NotFoundError):
        packet_filter.change(wanted.table, {"protocols": {b"\6": None}}, {})
    assert packet_filter.tables() == ()


@in_own_network
def test_changes_are_watched(make: Make) -> None:
    packet_filter, wanted = make(), ruleset()

    async def watch() -> list[int]:
        changes = packet_filter.watch()
        numbers = [(await anext(changes)).generation]
        packet_filter.replace(wanted)
        numbers.append((await anext(changes)).generation)
        packet_filter.change(wanted.table, {}, {"protocols": [b"\6"]})
        last = await anext(changes)
        assert last.process_id > 0
        assert last.process_name
        await changes.aclose()  # type: ignore[attr-defined]
        return [*numbers, last.generation]

    first, second, third = asyncio.run(watch())
    assert (second, third) == (first + 1, first + 2)
    assert third == packet_filter.generation()


@in_own_network
def test_features_are_told_and_nothing_is_left_behind(make: Make) -> None:
    packet_filter = make()
    before = packet_filter.generation()
    features = packet_filter.features()
    assert features.verdict_maps
    assert features.dynamic_sets
    assert features.concatenation_bytes >= 44
    assert features.conntrack != ("conntrack" in features.missing)
    assert (packet_filter.generation(), packet_filter.tables()) == (before, ())
