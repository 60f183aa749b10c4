"""The engine on a packet filter in memory: what changes for whom, and what is told of others' changes."""

import contextlib
import threading
from collections.abc import Collection, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from enforced import as_wanted, classes_of, make, now
from firewallworld import FLEET, NOTHING, POLICY
from memoryfilter import MemoryFilter

from undercroft.assurance.firewall.certificate import Certificate, Counterexample
from undercroft.errors import DeniedError, InputError, NotFoundError, OperationError, StateError
from undercroft.firewall.elements import device, port_elements
from undercroft.firewall.fleet import Fleet, Port
from undercroft.firewall.kernel import Chain, Counter, Rule, Ruleset, Table
from undercroft.ports.packetfilter import Elements, Keys
from undercroft.usecases.firewall.enforcing import Enforcer

WEB01, DB01, DB02 = FLEET.ports[:3]
OTHERS = replace(FLEET, ports=FLEET.ports[1:])
FRESH = Port("uuid-40", "fresh40", "vnet40", b"\x52\x54\0\0\0\x40", (IPv4Address("10.1.0.40"),))


@pytest.fixture
def packet_filter() -> MemoryFilter:
    return MemoryFilter()


@pytest.fixture
def enforcer(packet_filter: MemoryFilter, tmp_path: Path) -> Enforcer:
    return make(packet_filter, tmp_path)


def with_ports(*ports: Port) -> Fleet:
    return replace(FLEET, ports=ports)


def renamed(port: Port, labels: Sequence[str]) -> Port:
    return replace(port, labels=frozenset(labels))


def test_what_is_enforced_is_proven_and_so_is_each_change_alone(
    enforcer: Enforcer, packet_filter: MemoryFilter
) -> None:
    assert enforcer.recall() == ""
    assert enforcer.enforce(POLICY, OTHERS).whole
    whole = enforcer.prove()
    assert isinstance(whole, Certificate)
    packet_filter.reads = 0
    for change in (
        lambda: enforcer.admit([WEB01]),
        lambda: enforcer.admit([replace(WEB01, tap="vnet91")]),
        lambda: enforcer.admit([replace(DB01, mac=b"\x52\x54\0\0\0\x92")]),
        lambda: enforcer.dismiss(DB02.machine),
    ):
        assert not change().whole
        alone = enforcer.prove()
        assert isinstance(alone, Certificate)
        assert alone.generation == packet_filter.generation()
        assert alone is enforcer.prove()
    for ports in ([FRESH], [replace(FRESH, tap="vnet41")], [DB02]):
        enforcer.admit(ports)
    enforcer.dismiss(FRESH.machine)
    assert isinstance(enforcer.prove(), Certificate)
    assert packet_filter.reads == 0
    alone = enforcer.prove()
    packet_filter.blind = True
    packet_filter.interfere(Ruleset(replace(packet_filter.read("undercroft").table, name="other")))
    whole = enforcer.prove()
    assert isinstance(alone, Certificate)
    assert isinstance(whole, Certificate)
    assert (whole.elements, whole.fleet_digest) == (alone.elements, alone.fleet_digest)
    packet_filter.blind = False
    enforcer.admit(
        [replace(WEB01, tap=DB01.tap, mac=b"\x52\x54\0\0\0\x93"), replace(WEB01, ipv4=(), ipv6=())]
    )
    assert isinstance(enforcer.prove(), Certificate)


def test_a_change_that_is_not_there_is_no_certificate(
    enforcer: Enforcer, packet_filter: MemoryFilter
) -> None:
    enforcer.enforce(POLICY, OTHERS)
    enforcer.prove()
    enforcer.admit([WEB01])
    packet_filter.forge("sources4", {}, [device("vnet1") + WEB01.mac + bytes(2) + WEB01.ipv4[0].packed])
    answer = enforcer.prove()
    assert isinstance(answer, Counterexample)
    assert answer.set_name == "sources4"


def test_a_proof_that_breaks_off_between_two_changes_counts_none_of_them_twice(
    enforcer: Enforcer, packet_filter: MemoryFilter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enforcer.enforce(POLICY, OTHERS)
    enforcer.prove()
    enforcer.admit([WEB01])
    enforcer.admit([FRESH])
    find, answers = packet_filter.find, iter([True, True])

    def breaks_off(table: Table, keys: Keys) -> Elements:
        if not next(answers, False):
            packet_filter.fail(OperationError("the kernel has no memory"))
        return find(table, keys)

    monkeypatch.setattr(packet_filter, "find", breaks_off)
    with pytest.raises(OperationError, match="no memory"):
        enforcer.prove()
    monkeypatch.undo()
    packet_filter.mend()
    found = enforcer.prove()
    another = make(packet_filter, tmp_path)
    another.recall()
    another.enforce(POLICY, with_ports(*FLEET.ports, FRESH))
    whole = another.prove()
    assert isinstance(found, Certificate)
    assert isinstance(whole, Certificate)
    assert (found.elements, found.fleet_digest) == (whole.elements, whole.fleet_digest)


def test_what_a_machine_that_came_and_went_has_left_is_found(
    enforcer: Enforcer, packet_filter: MemoryFilter
) -> None:
    enforcer.enforce(POLICY, FLEET)
    enforcer.prove()
    enforcer.admit([FRESH])
    left = packet_filter.read("undercroft").elements["taps"]
    enforcer.dismiss(FRESH.machine)
    packet_filter.sneak("taps", left)
    answer = enforcer.prove()
    assert isinstance(answer, Counterexample)
    assert answer.set_name == "taps"


def test_the_same_policy_and_classes_change_elements_alone(
    enforcer: Enforcer, packet_filter: MemoryFilter
) -> None:
    enforcer.enforce(POLICY, FLEET)
    fleet = with_ports(renamed(WEB01, ["db"]), *FLEET.ports[2:])
    done = enforcer.enforce(POLICY, fleet)
    assert not done.whole
    assert 0 < done.added < done.removed
    assert packet_filter.calls == ["replace", "change"]
    as_wanted(enforcer, packet_filter, POLICY, fleet)
    assert enforcer.enforce(POLICY, fleet).generation == done.generation


def test_a_class_that_nobody_has_any_more_stays_until_the_policy_is_compiled_anew(
    enforcer: Enforcer, packet_filter: MemoryFilter
) -> None:
    enforcer.enforce(POLICY, FLEET)
    done = enforcer.enforce(POLICY, with_ports(WEB01))
    assert not done.whole
    assert enforcer.enforce(NOTHING, with_ports(WEB01)).whole
    as_wanted(enforcer, packet_filter, NOTHING, with_ports(WEB01))
    assert set(classes_of(enforcer, packet_filter).numbers) == {frozenset({"web"}), frozenset({"quarantine"})}


def test_a_new_set_of_labels_is_compiled_before_admit_returns(
    enforcer: Enforcer, packet_filter: MemoryFilter
) -> None:
    enforcer.enforce(POLICY, OTHERS)
    assert enforcer.admit([renamed(WEB01, ["web", "quarantine"])]).whole
    as_wanted(enforcer, packet_filter, POLICY, enforcer.fleet)


def test_an_earlier_execution_and_earlier_owners_of_tap_and_mac_are_gone(
    enforcer: Enforcer, packet_filter: MemoryFilter
) -> None:
    enforcer.enforce(POLICY, FLEET)
    new = replace(WEB01, tap=DB01.tap, mac=DB02.mac)
    enforcer.admit([new])
    as_wanted(enforcer, packet_filter, POLICY, with_ports(new, *FLEET.ports[3:]))
    held = packet_filter.read("undercroft").elements
    assert device(WEB01.tap) not in held["classes"]
    assert not [key for key in held["sources4"] if DB01.ipv4[0].packed in key]


def test_a_machine_that_comes_from_another_host_is_elsewhere_no_more(
    enforcer: Enforcer, packet_filter: MemoryFilter
) -> None:
    enforcer.enforce(POLICY, FLEET)
    machine = FLEET.elsewhere[0]
    for arriving in (True, False):
        port = replace(
            FRESH,
            machine=machine.machine,
            ipv4=(IPv4Address("10.1.0.20"),),
            labels=machine.labels,
            arriving=arriving,
        )
        enforcer.admit([port])
        fleet = Fleet(FLEET.host, FLEET.host_addresses, (*FLEET.ports, port), FLEET.elsewhere[1:])
        as_wanted(enforcer, packet_filter, POLICY, fleet)


@pytest.mark.parametrize("address", ["10.1.0.2", "10.1.0.20", "10.1.0.254"])
def test_an_address_of_somebody_else_closes_who_claims_it(
    enforcer: Enforcer, packet_filter: MemoryFilter, address: str
) -> None:
    enforcer.enforce(POLICY, FLEET)
    claiming = replace(WEB01, tap="vnet7", ipv4=(IPv4Address(address),))
    with pytest.raises(StateError, match=f"web01: the address {address} is that of .* too"):
        enforcer.admit([claiming])
    left = with_ports(*(port for port in FLEET.ports if port.tap not in {"vnet1", "vnet7"}))
    as_wanted(enforcer, packet_filter, POLICY, left)
    assert isinstance(enforcer.fleet, Fleet)
    assert set(enforcer.fleet.ports) == set(left.ports)


def test_ports_of_several_machines_or_none_are_refused(enforcer: Enforcer) -> None:
    enforcer.enforce(POLICY, FLEET)
    for ports in ([], [WEB01, DB01]):
        with pytest.raises(InputError, match="several machines"):
            enforcer.admit(ports)


def test_without_a_policy_nothing_is_admitted_or_proven(enforcer: Enforcer) -> None:
    for ask in (
        lambda: enforcer.admit([WEB01]),
        lambda: enforcer.dismiss("uuid-1"),
        enforcer.prove,
        lambda: enforcer.flows_of([WEB01]),
        lambda: enforcer.adopt({}),
    ):
        with pytest.raises(StateError, match="apply one first"):
            ask()
    assert enforcer.drifted(7) is None
    assert (enforcer.policy, enforcer.fleet) == (None, None)


def test_dismissing_a_machine_without_ports_changes_nothing(
    enforcer: Enforcer, packet_filter: MemoryFilter
) -> None:
    enforcer.enforce(POLICY, FLEET)
    done = enforcer.dismiss("uuid-none")
    assert (done.added, done.removed, packet_filter.calls) == (0, 0, ["replace"])


def test_a_withdrawn_table_is_gone_and_labels_have_their_numbers_again(
    enforcer: Enforcer, packet_filter: MemoryFilter
) -> None:
    enforcer.enforce(POLICY, FLEET)
    before = packet_filter.read("undercroft")
    assert enforcer.withdraw() == packet_filter.generation()
    assert packet_filter.tables() == ()
    assert enforcer.policy is None
    assert enforcer.withdraw() == 0
    enforcer.enforce(POLICY, FLEET)
    assert packet_filter.read("undercroft").elements == before.elements


# Others' changes.


def test_our_own_changes_are_no_drift(enforcer: Enforcer, packet_filter: MemoryFilter) -> None:
    packet_filter.stages = True
    done = enforcer.enforce(POLICY, OTHERS)
    packet_filter.reads = 0
    for change in (lambda: enforcer.admit([WEB01]), lambda: enforcer.enforce(POLICY, OTHERS)):
        generation = change().generation
        for past in range(done.generation - 1, generation + 1):
            assert enforcer.drifted(past) is None
    assert packet_filter.reads == 0


@pytest.mark.parametrize("blind", [False, True])
def test_a_change_of_another_table_is_none_of_ours(
    enforcer: Enforcer, packet_filter: MemoryFilter, blind: bool
) -> None:
    packet_filter.blind = blind
    enforcer.enforce(POLICY, FLEET)
    other = Ruleset(replace(packet_filter.read("undercroft").table, name="other"))
    packet_filter.interfere(other)
    foreign = packet_filter.generation()
    own = enforcer.dismiss(WEB01.machine).generation
    packet_filter.reads = 0
    assert enforcer.drifted(own) is None
    assert packet_filter.reads == 0
    assert enforcer.drifted(foreign) is None
    assert enforcer.drifted(foreign) is None
    assert packet_filter.reads == (1 if blind else 0)
    assert not enforcer.enforce(POLICY, FLEET).whole


def test_a_change_of_our_table_is_drift_until_it_is_enforced_again(
    enforcer: Enforcer, packet_filter: MemoryFilter
) -> None:
    enforcer.enforce(POLICY, FLEET)
    foreign = device("vnet1") + WEB01.mac + bytes(2) + b"\x08\x08\x08\x08"
    packet_filter.forge("sources4", {foreign: None})
    drift = enforcer.drifted(packet_filter.generation())
    assert isinstance(drift, Counterexample)
    assert drift.packet is not None
    assert drift.kernel_passes
    assert not drift.policy_passes
    assert isinstance(enforcer.drifted(packet_filter.generation()), Counterexample)
    # Where the policy says that it is only reported, a machine that starts is no reason to put it right.
    for change in (enforcer.dismiss(DB02.machine), enforcer.admit([DB02])):
        assert not change.whole
        assert enforcer.drifted(change.generation) is None
    assert foreign in packet_filter.read("undercroft").elements["sources4"]
    assert enforcer.enforce(POLICY, FLEET).whole
    as_wanted(enforcer, packet_filter, POLICY, FLEET)
    assert enforcer.drifted(packet_filter.generation()) is None


def test_a_table_that_was_deleted_is_drift(enforcer: Enforcer, packet_filter: MemoryFilter) -> None:
    enforcer.enforce(POLICY, FLEET)
    gone = packet_filter.vanish("undercroft")
    drift = enforcer.drifted(gone)
    assert isinstance(drift, Counterexample)
    assert "nothing is filtered" in drift.says
    assert isinstance(enforcer.prove(), Counterexample)
    enforcer.admit([WEB01])
    as_wanted(enforcer, packet_filter, POLICY, FLEET)


def test_a_change_that_means_the_same_is_told_and_made_as_it_was(
    enforcer: Enforcer, packet_filter: MemoryFilter
) -> None:
    enforcer.enforce(POLICY, FLEET)
    found = packet_filter.read("undercroft")
    more = (*found.table.chains, Chain("unused", (Rule((Counter(),)),)))
    packet_filter.interfere(replace(found, table=replace(found.table, chains=more)))
    assert isinstance(enforcer.drifted(packet_filter.generation()), Certificate)
    enforcer.enforce(POLICY, FLEET)
    as_wanted(enforcer, packet_filter, POLICY, FLEET)


@pytest.mark.parametrize("what", ["taken", "there", "other data"])
def test_elements_that_somebody_else_changed_are_put_right_without_an_error(
    enforcer: Enforcer, packet_filter: MemoryFilter, what: str
) -> None:
    enforcer.enforce(POLICY, FLEET)
    if what == "taken":
        packet_filter.forge("sources4", {}, packet_filter.read("undercroft").elements["sources4"])
    elif what == "there":
        packet_filter.forge("taps", {device("vnet99"): None})
    else:
        packet_filter.forge("classes", {device("vnet99"): b"\1\2\3\4"})
    port = replace(WEB01, tap="vnet99")
    assert not enforcer.admit([port]).whole
    found = packet_filter.read("undercroft").elements
    for name, elements in port_elements(port, classes_of(enforcer, packet_filter)).items():
        assert elements.items() <= found[name].items()
    assert enforcer.enforce(POLICY, FLEET).whole
    as_wanted(enforcer, packet_filter, POLICY, FLEET)


def test_a_set_that_is_full_is_told_and_the_machine_is_closed(
    enforcer: Enforcer, packet_filter: MemoryFilter
) -> None:
    enforcer.enforce(POLICY, FLEET)
    packet_filter.room["sources4"] = len(packet_filter.read("undercroft").elements["sources4"])
    more = replace(WEB01, ipv4=(*WEB01.ipv4, IPv4Address("10.1.7.7")))
    with pytest.raises(StateError, match="full"):
        enforcer.admit([more])
    as_wanted(enforcer, packet_filter, POLICY, OTHERS)
    packet_filter.room.clear()
    enforcer.admit([more])
    as_wanted(enforcer, packet_filter, POLICY, replace(OTHERS, ports=(*OTHERS.ports, more)))


@pytest.mark.parametrize("error", [OperationError("the kernel refuses"), DeniedError("no CAP_NET_ADMIN")])
def test_after_an_error_the_next_call_makes_it_right(
    enforcer: Enforcer, packet_filter: MemoryFilter, error: Exception
) -> None:
    enforcer.enforce(POLICY, OTHERS)
    packet_filter.fail(error)
    for ask in (lambda: enforcer.admit([WEB01]), lambda: enforcer.enforce(NOTHING, FLEET), enforcer.prove):
        with pytest.raises(type(error)):
            ask()
    packet_filter.mend()
    assert enforcer.policy == POLICY
    enforcer.admit([WEB01])
    as_wanted(enforcer, packet_filter, POLICY, FLEET)


def test_an_answer_that_was_lost_is_no_error(enforcer: Enforcer, packet_filter: MemoryFilter) -> None:
    enforcer.enforce(POLICY, OTHERS)
    packet_filter.lose_answers = 1
    enforcer.admit([WEB01])
    as_wanted(enforcer, packet_filter, POLICY, FLEET)


def test_machines_that_come_at_once_are_all_there(enforcer: Enforcer, packet_filter: MemoryFilter) -> None:
    enforcer.enforce(POLICY, FLEET)
    ports = [
        replace(FRESH, machine=f"new-{n}", tap=f"tap{n}", mac=b"\x52\x54\1\0\0" + bytes([n]), ipv4=())
        for n in range(20)
    ]
    threads = [threading.Thread(target=enforcer.admit, args=([port],)) for port in ports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    as_wanted(enforcer, packet_filter, POLICY, with_ports(*FLEET.ports, *ports))


# A new agent.


def test_a_new_agent_finds_the_classes_and_changes_nothing(
    enforcer: Enforcer, packet_filter: MemoryFilter, tmp_path: Path
) -> None:
    enforcer.enforce(POLICY, FLEET)
    generation = packet_filter.generation()
    again = make(packet_filter, tmp_path)
    assert again.recall() == ""
    again.enforce(POLICY, FLEET)
    assert packet_filter.generation() == generation


@pytest.mark.parametrize("how", ["gone", "none of ours", "of another table"])
def test_without_a_memory_that_fits_every_class_has_a_number_that_the_table_does_not_use(
    enforcer: Enforcer, packet_filter: MemoryFilter, tmp_path: Path, how: str
) -> None:
    enforcer.enforce(POLICY, FLEET)
    before = set(packet_filter.read("undercroft").elements["classes"].values())
    file = tmp_path / "numbers"
    if how == "gone":
        file.unlink()
    elif how == "none of ours":
        file.write_text('{"version": 1}')
    else:
        Enforcer(MemoryFilter(), file, now).enforce(POLICY, with_ports(DB01, WEB01))
    again = make(packet_filter, tmp_path)
    assert "all classes get new numbers" in again.recall()
    assert again.enforce(POLICY, FLEET).whole
    after = set(packet_filter.read("undercroft").elements["classes"].values())
    assert not before & after
    as_wanted(again, packet_filter, POLICY, FLEET)


def test_a_table_with_other_numbers_that_somebody_put_there_is_trusted_no_more_than_an_unknown_one(
    enforcer: Enforcer, packet_filter: MemoryFilter, tmp_path: Path
) -> None:
    enforcer.enforce(POLICY, FLEET)
    elsewhere = MemoryFilter()
    other = Enforcer(elsewhere, tmp_path / "other", now)
    other.enforce(POLICY, with_ports(*FLEET.ports[::-1], replace(FRESH, labels=frozenset("a"))))
    packet_filter.interfere(elsewhere.read("undercroft"))
    before = set(packet_filter.read("undercroft").elements["classes"].values())
    enforcer.enforce(POLICY, FLEET)
    assert not before & set(packet_filter.read("undercroft").elements["classes"].values())


# Kernels.


@pytest.mark.parametrize(
    ("lacking", "part"),
    [
        ({"verdict_maps": False}, "verdict maps"),
        ({"dynamic_sets": False}, "dynamic sets"),
        ({"concatenation_bytes": 24}, "keys of 44 bytes"),
        ({"rate_limits": False}, "nft_limit"),
        ({"logs": False}, "nft_log"),
    ],
)
def test_what_the_kernel_lacks_is_named_with_its_cure(
    packet_filter: MemoryFilter, tmp_path: Path, lacking: dict[str, int], part: str
) -> None:
    packet_filter.can = replace(packet_filter.can, **lacking)  # type: ignore[arg-type]
    with pytest.raises(OperationError, match=f"no .*bridge family: .*|{part}") as error:
        make(packet_filter, tmp_path).enforce(POLICY, FLEET)
    assert part in str(error.value)
    assert packet_filter.tables() == ()


def test_without_logs_a_policy_that_logs_nothing_is_enforced(
    packet_filter: MemoryFilter, tmp_path: Path
) -> None:
    packet_filter.can = replace(packet_filter.can, logs=False)
    quiet = replace(POLICY, log=replace(POLICY.log, packets=0))
    assert make(packet_filter, tmp_path).enforce(quiet, FLEET).whole


@pytest.mark.parametrize("conntrack", [True, False])
def test_without_rates_the_kernel_has_to_know_flows_itself(
    packet_filter: MemoryFilter, tmp_path: Path, conntrack: bool
) -> None:
    packet_filter.can = replace(packet_filter.can, logs=False, rate_limits=False, conntrack=conntrack)
    quiet = replace(POLICY, log=replace(POLICY.log, packets=0))
    enforcer = make(packet_filter, tmp_path)
    with contextlib.nullcontext() if conntrack else pytest.raises(OperationError, match="nft_limit"):
        enforcer.enforce(quiet, FLEET)
    assert bool(packet_filter.tables()) is conntrack


# Flows.


def test_what_packets_have_written_is_not_read_for_a_proof(tmp_path: Path) -> None:
    reads: list[bool] = []

    class Noting(MemoryFilter):
        def read(self, table: str, sets: Collection[str] | None = None, *, written: bool = True) -> Ruleset:
            if sets is None:
                reads.append(written)
            return super().read(table, sets, written=written)

    packet_filter = Noting()
    enforcer = Enforcer(packet_filter, tmp_path / "memory", now)
    enforcer.enforce(POLICY, FLEET)
    assert isinstance(enforcer.prove(), Certificate)
    assert reads
    assert not any(reads)


def test_flows_of_a_machine_move_and_those_of_others_stay(
    enforcer: Enforcer, packet_filter: MemoryFilter, tmp_path: Path
) -> None:
    enforcer.enforce(POLICY, FLEET)
    table = packet_filter.read("undercroft").table
    web, db, world = WEB01.ipv4[0].packed, DB01.ipv4[0].packed, b"\x08\x08\x08\x08"
    tcp, udp, ports = b"\6\0\0\0", b"\x11\0\0\0", b"\1\xbb\0\0\x99\x99\0\0"
    mine = {
        "flows4": {world + web + tcp + ports: None, web + db + udp + ports: None},
        "echoes4": {world + web + b"\1\2\0\0": None},
        "asked": {WEB01.mac: None},
    }
    packet_filter.change(table, mine, {})
    packet_filter.change(table, {"flows4": {world + db + tcp + ports: None}, "asked": {DB01.mac: None}}, {})
    moved = enforcer.flows_of([WEB01])
    assert {name: set(keys) for name, keys in moved.items()} == {
        name: set(found) for name, found in mine.items()
    }
    there = MemoryFilter()
    target = Enforcer(there, tmp_path / "target", now)
    target.enforce(POLICY, OTHERS)
    target.adopt(moved, WEB01.machine)
    assert there.read("undercroft").elements["flows4"] == {}
    target.admit([WEB01])
    generation = there.generation()
    target.adopt({**moved, "flows9": (b"of another version",)}, WEB01.machine)
    assert there.timeouts_ms == {
        "flows4": {world + web + tcp + ports: 3_600_000, web + db + udp + ports: 120_000},
        "echoes4": {world + web + b"\1\2\0\0": 30_000},
        "asked": {WEB01.mac: 60_000},
    }
    assert target.drifted(generation + 1) is None
    target.adopt({"flows4": (world + b"\x0a\1\0\x14" + tcp + ports,)})
    assert there.generation() == generation + 1


def test_flows_that_are_no_keys_or_too_many_are_refused(enforcer: Enforcer) -> None:
    enforcer.enforce(POLICY, FLEET)
    with pytest.raises(InputError, match="a key of 3 bytes; 20 are expected"):
        enforcer.adopt({"flows4": (b"abc",)})
    with pytest.raises(InputError, match="more than 65,536"):
        enforcer.adopt({"flows4": (bytes(20),) * 65_537})


def test_with_conntrack_no_flow_moves(packet_filter: MemoryFilter, tmp_path: Path) -> None:
    packet_filter.can = replace(packet_filter.can, conntrack=True)
    enforcer = make(packet_filter, tmp_path)
    enforcer.enforce(POLICY, FLEET)
    with pytest.raises(NotFoundError):
        packet_filter.change(packet_filter.read("undercroft").table, {}, {"asked": [WEB01.mac]})
    packet_filter.change(packet_filter.read("undercroft").table, {"asked": {WEB01.mac: None}}, {})
    generation = packet_filter.generation()
    assert enforcer.flows_of([WEB01]) == {}
    enforcer.adopt({"asked": (WEB01.mac,)})
    assert packet_filter.generation() == generation
