"""What Z3 is told of a table, against the interpreter of single packets, for the packets of a campaign."""

import random
import sys
from dataclasses import replace

import pytest
import z3
from firewallworld import Frames, memory_of, ruleset

from undercroft.assurance.firewall.contents import KnownSets, OpenSets
from undercroft.assurance.firewall.packet import EXTENSIONS, SymbolicPacket
from undercroft.assurance.firewall.running import host_order
from undercroft.assurance.firewall.symbolic import Executor
from undercroft.assurance.firewall.terms import Bytes, equal
from undercroft.errors import UnsupportedError
from undercroft.firewall.decisions import PathKind, Remembered
from undercroft.firewall.kernel import (
    Base,
    Chain,
    Code,
    Compare,
    Expression,
    Hook,
    Immediate,
    Key,
    Lookup,
    Meta,
    Operator,
    Payload,
    Range,
    Rule,
    Ruleset,
    Table,
    Verdict,
)
from undercroft.firewall.packets import parse
from undercroft.firewall.simulate import Context, Memory, run

ACCEPT, DROP = Immediate(Verdict(Code.ACCEPT)), Immediate(Verdict(Code.DROP))


def bound(packet: SymbolicPacket, frame: bytes, names: tuple[str, str], mark: int) -> list[z3.BoolRef]:
    """Say that the packet is this frame. The walk over extension headers is the interpreter's."""
    parsed = parse(frame)
    assert parsed is not None
    tagged = parsed.network_offset == 18
    network = frame[parsed.network_offset :]
    said = [
        equal(packet.link, frame[:12]),
        packet.tagged == tagged,
        equal(packet.kind, parsed.ether_type.to_bytes(2, "big")),
        equal(packet.said, parsed.ether_type.to_bytes(2, "big")),
        packet.length == len(network),
        equal(packet.input_name, names[0].encode().ljust(16, b"\0")),
        equal(packet.output_name, names[1].encode().ljust(16, b"\0")),
        equal(packet.mark, host_order(mark)),
        z3.Not(packet.large),
    ]
    if tagged:
        said.append(equal(packet.tag, frame[12:16]))
    if network:
        said.append(equal(packet.network(0, len(network)), network))
    if parsed.ether_type == 0x86DD and parsed.protocol is not None:
        said += (
            [packet.walk_ends, packet.walk_protocol == parsed.protocol]
            if network[6] in (0, 43, 44, 51, 60)
            else []
        )
    elif parsed.ether_type == 0x86DD:
        said.append(z3.Not(packet.walk_ends))
    if parsed.transport_offset is not None:
        transport = frame[parsed.transport_offset :]
        said.append(packet.walk_later == False)  # noqa: E712 - a term
        if parsed.ether_type == 0x86DD and network[6] in EXTENSIONS:
            said.append(packet.walk_offset == parsed.transport_offset - parsed.network_offset)
        if transport:
            said.append(equal(packet.transport(0, len(transport)), transport))
    elif parsed.ether_type == 0x86DD:
        said.append(packet.walk_later == True)  # noqa: E712
    return said


def symbolic_verdict(table: Ruleset, hook: Hook, frame: bytes, context: Context, memory: Memory) -> bool:
    """Return what Z3 says of one packet; it has to say one thing, and not the other."""
    packet = SymbolicPacket()
    dynamic = {item.name for item in table.table.sets if item.dynamic}
    elements = {item.name: table.elements.get(item.name, {}) for item in table.table.sets}
    elements |= {name: dict.fromkeys(memory.sets.get(name, set())) for name in dynamic}
    passage = Executor(table.table, packet, KnownSets(elements, OpenSets({}))).hook(hook, packet.mark)
    solver = z3.Solver()
    solver.add(packet.possible())
    solver.add(*bound(packet, frame, (context.input_name, context.output_name), context.mark))
    solver.add(*of_kind(packet, context))
    for name in {str(item) for item in free_names(passage.accepted)}:
        solver.add(z3.Bool(name))
    answers = [solver.check(passage.accepted), solver.check(z3.Not(passage.accepted))]
    assert sorted(map(str, answers)) == ["sat", "unsat"], (frame.hex(), answers)
    return bool(answers[0] == z3.sat)


def of_kind(packet: SymbolicPacket, context: Context) -> list[z3.BoolRef]:
    """Return that the devices are of the context's kinds."""
    kinds = (
        (packet.input_made, packet.input_kind, context.input_kind),
        (packet.output_made, packet.output_kind, context.output_kind),
    )
    return [
        z3.And(made == bool(name), z3.Implies(made, equal(held, name.encode().ljust(16, b"\0"))))
        for made, held, name in kinds
    ]


def free_names(term: z3.ExprRef) -> set[z3.ExprRef]:
    """Return the choices that the interpreter makes in favour of the rule: rates, and room in sets."""
    found, seen, waiting = set(), set(), [term]
    while waiting:
        one = waiting.pop()
        if one.get_id() in seen:
            continue
        seen.add(one.get_id())
        if z3.is_const(one) and str(one).startswith(("limit ", "room ", "within ")):
            found.add(one)
        waiting += one.children()
    return found


@pytest.mark.parametrize("seed", range(2))
def test_z3_and_the_interpreter_agree_on_the_packets_of_a_campaign(seed: int) -> None:
    frames, table = Frames(random.Random(f"symbolic {seed}")), ruleset()
    verdicts = set()
    for _ in range(24):
        path, frame = frames.draw(Remembered())
        packet = parse(frame)
        if packet is None:
            continue
        mark = 0
        hooks = {
            PathKind.FORWARD: (Hook.PREROUTING, Hook.FORWARD),
            PathKind.TO_HOST: (Hook.PREROUTING, Hook.INPUT),
            PathKind.FROM_HOST: (Hook.OUTPUT,),
        }[path.kind]
        for hook in hooks:
            context = Context(
                path.source if hook is not Hook.OUTPUT else "",
                path.target if hook in {Hook.FORWARD, Hook.OUTPUT} else "",
                mark,
                path.source_kind,
                path.target_kind,
            )
            outcome = run(table, hook, packet, context, memory_of(Remembered()))
            names = replace(
                context, input_name=context.input_name or "none", output_name=context.output_name or "none"
            )
            said = symbolic_verdict(table, hook, frame, names, memory_of(Remembered()))
            assert said is outcome.accept, (path, hook, frame.hex(), outcome.way)
            verdicts.add((hook, said))
            mark = outcome.mark
            if not outcome.accept:
                break
    assert len(verdicts) > 3


def accepted(*rules: tuple[Expression, ...], **more: Chain) -> z3.BoolRef:
    """Return for which packets one chain at prerouting with these rules, and else a drop, accepts."""
    chains = (Chain("base", tuple(map(Rule, rules)), Hook.PREROUTING, 0, Code.DROP), *more.values())
    executor = Executor(Table("t", (), chains), SymbolicPacket(), OpenSets({}))
    return executor.hook(Hook.PREROUTING, MARK).accepted


MARK: Bytes = SymbolicPacket().mark


def never(term: z3.BoolRef) -> bool:
    solver = z3.Solver()
    solver.add(SymbolicPacket().possible(), term)
    return bool(solver.check() == z3.unsat)


def load(base: Base, offset: int, length: int) -> Payload:
    return Payload(0, base, offset, length)


def test_a_packet_that_is_too_short_ends_a_rule() -> None:
    packet = SymbolicPacket()
    term = accepted((load(Base.NETWORK, 30, 4), ACCEPT))
    assert never(z3.And(term, z3.ULT(packet.length, 34)))
    assert never(z3.And(z3.Not(term), z3.UGE(packet.length, 34)))


def test_a_later_fragment_has_no_transport_header_but_for_what_some_kernels_misread() -> None:
    packet = SymbolicPacket()
    term = accepted((load(Base.TRANSPORT, 0, 3), ACCEPT))
    later = z3.And(equal(packet.kind, b"\x08\x00"), packet.network(6, 2)[1] != 0)
    assert never(z3.And(term, later))
    assert not never(term)
    assert not never(z3.And(accepted((load(Base.TRANSPORT, 0, 2), ACCEPT)), later))


def test_a_tag_that_the_kernel_took_off_is_seen_by_what_loads_the_type() -> None:
    packet = SymbolicPacket()
    term = accepted((load(Base.LINK, 12, 2), Compare(0, Operator.EQUAL, b"\x08\x00"), ACCEPT))
    assert never(z3.And(term, packet.tagged))
    by_protocol = accepted((Meta(0, Key.PROTOCOL), Compare(0, Operator.EQUAL, b"\x08\x00"), ACCEPT))
    assert not never(z3.And(by_protocol, packet.tagged))


def test_after_goto_nothing_comes_back_and_after_jump_it_does() -> None:
    empty = Chain("empty", ())
    goto, jump = Immediate(Verdict(Code.GOTO, "empty")), Immediate(Verdict(Code.JUMP, "empty"))
    assert never(accepted((goto,), (ACCEPT,), other=empty))
    assert never(z3.Not(accepted((jump,), (ACCEPT,), other=empty)))


def test_a_goto_within_a_jump_comes_back_behind_the_jump() -> None:
    inner = Chain("inner", (Rule((Immediate(Verdict(Code.GOTO, "empty")),)), Rule((DROP,))))
    term = accepted(
        (Immediate(Verdict(Code.JUMP, "inner")),), (ACCEPT,), inner=inner, empty=Chain("empty", ())
    )
    assert never(z3.Not(term))


def test_a_range_and_its_inverse_part_all_packets() -> None:
    term = accepted((load(Base.LINK, 6, 1), Range(0, b"\x10", b"\x20"), ACCEPT))
    other = accepted((load(Base.LINK, 6, 1), Range(0, b"\x10", b"\x20", inverted=True), ACCEPT))
    assert never(term == other)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ((Compare(0, Operator.EQUAL, b"\0"), ACCEPT), "which this rule has not set"),
        ((Meta(0, Key.INPUT_NAME), Lookup("gone", 0), ACCEPT), "set 'gone' is not in the table"),
        ((Immediate(Verdict(Code.GOTO, "gone")),), "no chain to go to"),
        ((Payload(15, Base.LINK, 0, 6),), "do not fit"),
    ],
)
def test_what_is_not_clear_fails_and_names_its_place(rule: tuple[Expression, ...], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message) as error:
        accepted(rule)
    assert "chain base, rule 1" in str(error.value)


def test_a_table_that_goes_round_in_a_circle_fails() -> None:
    circle = Chain("circle", (Rule((Immediate(Verdict(Code.JUMP, "circle")),)),))
    with pytest.raises(UnsupportedError, match="reached from itself"):
        accepted((Immediate(Verdict(Code.JUMP, "circle")),), circle=circle)


def test_marks_stand_in_the_order_of_this_host() -> None:
    assert int.from_bytes(host_order(0x1234), sys.byteorder) == 0x1234
