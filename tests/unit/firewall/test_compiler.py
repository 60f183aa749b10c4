"""The compiler's output: rules that do not grow with machines, and small changes for small changes."""

import struct
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from firewallworld import CLASSES, FLEET, POLICY, VLAN_POLICY, ip_packet, ruleset

from undercroft.errors import StateError
from undercroft.firewall.classes import Classes, assigned
from undercroft.firewall.compiler import compile_ruleset, compile_table
from undercroft.firewall.decisions import Path, PathKind
from undercroft.firewall.elements import port_elements
from undercroft.firewall.fleet import Fleet, Port, link_local
from undercroft.firewall.kernel import FIELD_BYTES, Code, Lookup, Verdict
from undercroft.firewall.packets import parse
from undercroft.firewall.simulate import Memory, follow
from undercroft.firewall.tracking import StateKind


def test_the_rules_do_not_depend_on_machines():
    one = compile_ruleset(POLICY, Fleet("here"), CLASSES, StateKind.TUPLES)
    assert one.table == ruleset().table == compile_table(POLICY, CLASSES, StateKind.TUPLES)


def test_one_machine_is_a_few_elements_that_nobody_else_has():
    whole, port = ruleset().elements, FLEET.ports[1]
    rest = compile_ruleset(
        POLICY, replace(FLEET, ports=(FLEET.ports[0], *FLEET.ports[2:])), CLASSES, StateKind.TUPLES
    ).elements
    delta = port_elements(port, CLASSES)
    assert sum(map(len, delta.values())) <= 3 + 5 * 4
    for name, pairs in whole.items():
        assert rest[name].items() == pairs.items() - delta.get(name, {}).items()


def test_names_fit_and_concatenations_have_five_fields_at_most():
    for state in StateKind:
        table = ruleset(POLICY, state).table
        names = [item.name for item in table.sets]
        assert len(names) == len(set(names))
        assert max(map(len, names)) <= 31
        chains = [chain.name for chain in table.chains]
        assert len(chains) == len(set(chains))
        assert max(map(len, chains)) <= 31
        assert all(len(item.key) <= 5 and set(item.key) <= FIELD_BYTES.keys() for item in table.sets)


def test_every_set_and_chain_that_is_named_is_there():
    for state in StateKind:
        rules = ruleset(POLICY, state)
        sets = {item.name for item in rules.table.sets}
        chains = {chain.name for chain in rules.table.chains}
        for chain in rules.table.chains:
            for rule in chain.rules:
                assert {item.set_name for item in rule.expressions if isinstance(item, Lookup)} <= sets
        verdicts = [
            item for pairs in rules.elements.values() for item in pairs.values() if isinstance(item, Verdict)
        ]
        assert {item.chain for item in verdicts if item.code is Code.GOTO} <= chains
        assert rules.elements.keys() == sets


def test_two_machines_never_share_what_tells_them_apart():
    port = FLEET.ports[0]
    for change in ({"tap": "vnet2"}, {"mac": FLEET.ports[1].mac}, {"ipv4": FLEET.ports[1].ipv4}):
        fleet = replace(FLEET, ports=(replace(port, **change), *FLEET.ports[1:]))
        with pytest.raises(StateError, match="too; change one"):
            compile_ruleset(POLICY, fleet, CLASSES, StateKind.TUPLES)
    with pytest.raises(StateError, match="none that a machine can have"):
        compile_ruleset(POLICY, Fleet("h", ports=(replace(port, tap="a" * 16),)), CLASSES, StateKind.TUPLES)


def test_a_machine_without_a_class_is_refused():
    port = Port(
        "u", "new", "vnet9", bytes([2, 0, 0, 0, 0, 9]), (IPv4Address("10.0.0.9"),), (), frozenset({"new"})
    )
    with pytest.raises(StateError, match="labels new: no class has them"):
        port_elements(port, CLASSES)
    assert port_elements(port, assigned(Classes(), [port.labels]))["taps"]


def test_the_link_local_address_follows_from_the_mac():
    assert str(link_local(bytes.fromhex("525400123456"))) == "fe80::5054:ff:fe12:3456"


class Counted(dict):
    """Elements of sets that tell how often a rule has looked something up."""

    count = 0

    def get(self, name, default=None):
        self.count += 1
        return super().get(name, default)


@pytest.mark.parametrize("policy", [POLICY, VLAN_POLICY])
def test_a_packet_of_an_open_flow_costs_six_look_ups_with_its_log_line_and_its_answer_six(policy):
    rules, memory = ruleset(policy), Memory()
    web, db = FLEET.ports[0], FLEET.ports[1]
    there = ip_packet(
        4, web.ipv4[0].packed, db.ipv4[0].packed, 6, struct.pack(">HH", 40000, 5432) + bytes(16)
    )
    back = ip_packet(4, db.ipv4[0].packed, web.ipv4[0].packed, 6, struct.pack(">HH", 5432, 40000) + bytes(16))
    opening = [(web, db, there, 7), (db, web, back, 7)]
    for source, target, packet, look_ups in (*opening, (web, db, there, 6), (db, web, back, 6)):
        elements = Counted(rules.elements)
        frame = parse(target.mac + source.mac + b"\x08\0" + packet)
        path = Path(PathKind.FORWARD, source.tap, target.tap)
        assert follow(replace(rules, elements=elements), frame, path, memory).accept
        assert elements.count == look_ups
