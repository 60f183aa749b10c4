"""nftables over netlink on the real kernel, in network namespaces of the tests; nft(8) is the oracle."""

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from netns import in_own_network
from rulesetvalues import rulesets

from undercroft.adapters.nftables import Nftables, codec
from undercroft.errors import InputError, OperationError, StateError
from undercroft.firewall.kernel import (
    Base,
    Bitwise,
    Chain,
    Code,
    Compare,
    Conntrack,
    Counter,
    Hook,
    Immediate,
    Key,
    Limit,
    Load,
    Log,
    Lookup,
    Meta,
    Operator,
    Payload,
    Range,
    Rule,
    Ruleset,
    SetDefinition,
    SetMark,
    Table,
    Unknown,
    Update,
    Verdict,
)
from undercroft.ports.packetfilter import TableName

needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft: apt-get install nftables")
on_the_kernel = settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.generate])

DROP, ACCEPT = Verdict(Code.DROP), Verdict(Code.ACCEPT)
WEB = Verdict(Code.GOTO, "to-web")
PORTS = SetDefinition("ports", ("ifname",), "verdict", 256)
HOSTS = SetDefinition("hosts", ("ipv4_addr",), "", 256)


@pytest.fixture
def nftables() -> Iterator[Nftables]:
    with Nftables() as found:
        yield found


def port(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


def nft(*lines: str) -> str:
    done = subprocess.run(
        ["nft", "-f", "-"], input="\n".join(lines), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def small(*rules: Rule, hosts: tuple[bytes, ...] = (), policy: Code = Code.DROP) -> Ruleset:
    chains = (Chain("forward", rules, Hook.FORWARD, -400, policy), Chain("to-web", ()))
    elements = {"hosts": dict.fromkeys(hosts), "ports": {port("vnet0"): WEB}}
    return Ruleset(Table("undercroft", (HOSTS, PORTS), chains), elements)


BY_PORT = Rule((Meta(0, Key.INPUT_NAME), Lookup("ports", 0, verdicts=True)))
BY_HOST = Rule((Payload(0, Base.NETWORK, 12, 4), Lookup("hosts", 0), Immediate(ACCEPT)))


def same(found: Ruleset, wanted: Ruleset) -> bool:
    return (found.table, found.elements) == (wanted.table, wanted.elements)


@in_own_network
@on_the_kernel
@given(ruleset=rulesets(conntrack=False))
def test_random_tables_are_read_back_as_they_were_written(ruleset: Ruleset) -> None:
    with Nftables() as nftables:
        nftables.replace(ruleset)
        found = nftables.read("random")
        nftables.delete("random")
    assert same(found, ruleset)


@in_own_network
@on_the_kernel
@given(first=rulesets(conntrack=False), second=rulesets(conntrack=False))
def test_any_table_becomes_any_other(first: Ruleset, second: Ruleset) -> None:
    with Nftables() as nftables:
        before = nftables.replace(first)
        made = nftables.replace(second)
        found = nftables.read("random")
        nftables.delete("random")
    assert made in {0, before + 1, before + 2}
    assert found.table == second.table
    stay = {one.name for one in first.table.sets if one.dynamic and one in second.table.sets}
    for name, elements in found.elements.items():
        kept = first.elements[name] if name in stay else {}
        assert elements == {**kept, **second.elements[name]}


@in_own_network
@on_the_kernel
@given(ruleset=rulesets(conntrack=False))
def test_part_of_a_table_changes_and_the_rest_stays(ruleset: Ruleset) -> None:
    table = ruleset.table
    turned = tuple(replace(chain, rules=chain.rules[::-1]) for chain in table.chains)
    halves = {name: dict(list(elements.items())[::2]) for name, elements in ruleset.elements.items()}
    dynamic = {one.name: ruleset.elements[one.name] for one in table.sets if one.dynamic}
    with Nftables() as nftables:
        nftables.replace(ruleset)
        nftables.replace(Ruleset(replace(table, chains=turned), halves))
        found = nftables.read("random")
        nftables.replace(ruleset)
        again = nftables.read("random")
        nftables.delete("random")
    assert same(found, Ruleset(replace(table, chains=turned), {**halves, **dynamic}))
    assert same(again, ruleset)


@needs_nft
@in_own_network
def test_nft_lists_for_how_long_elements_are_remembered(nftables: Nftables) -> None:
    flows = SetDefinition("flows", ("inet_service",), "", 64, dynamic=True, timeout_ms=60_000)
    table = Table("undercroft", (flows,), ())
    nftables.replace(Ruleset(table))
    nftables.remember(table, {"flows": {b"\0\x50": 3_600_000, b"\1\xbb": 30_000}})
    listed = nft("list set bridge undercroft flows")
    assert "80 timeout 1h expires 59m59s" in listed or "80 timeout 1h expires 1h" in listed
    assert "443 timeout 30s" in listed


@needs_nft
@in_own_network
def test_nft_lists_what_was_written(nftables: Nftables) -> None:
    sets = (
        SetDefinition("flows", ("ipv4_addr", "inet_service"), "", 100, dynamic=True, timeout_ms=30_000),
        SetDefinition("marks", ("ifname", "ether_addr", "mark"), "mark", 64),
        PORTS,
    )
    rules = (
        BY_PORT,
        Rule((Meta(0, Key.PROTOCOL), Compare(0, Operator.EQUAL, b"\x08\x06"), Immediate(ACCEPT)), "ARP & co"),
        Rule((Payload(0, Base.LINK, 6, 6), Compare(0, Operator.UNEQUAL, b"\2\0\0\0\0\1"), Immediate(DROP))),
        Rule(
            (
                Meta(0, Key.PROTOCOL),
                Compare(0, Operator.EQUAL, b"\x08\x00"),
                Payload(0, Base.NETWORK, 12, 4),
                Bitwise(0, 0, b"\xff\xff\xff\x00", bytes(4)),
                Compare(0, Operator.EQUAL, b"\x0a\0\0\0"),
                Counter(),
                Immediate(Verdict(Code.JUMP, "to-web")),
            )
        ),
        Rule((Limit(10, 1, 5), Log(7, "denied", 64), Immediate(DROP))),
        Rule((Load(0, b"\2\0\0\0"), SetMark(0))),
    )
    chains = (Chain("forward", rules, Hook.FORWARD, -400, Code.DROP), Chain("to-web", ()))
    elements = {
        "marks": {port("vnet0") + b"\2\0\0\0\0\1\0\0" + b"\5\0\0\0": b"\7\0\0\0"},
        "ports": {port("vnet0"): WEB},
    }
    nftables.replace(Ruleset(Table("undercroft", sets, chains), elements))
    assert nft("list table bridge undercroft").replace("\t", " ").split("\n") == [
        "table bridge undercroft {",
        " set flows {",
        "  type ipv4_addr . inet_service",
        "  size 100",
        "  flags dynamic,timeout",
        "  timeout 30s",
        " }",
        "",
        " map marks {",
        "  type ifname . ether_addr . mark : mark",
        "  size 64",
        '  elements = { "vnet0" . 02:00:00:00:00:01 . 0x00000005 : 0x00000007 }',
        " }",
        "",
        " map ports {",
        "  type ifname : verdict",
        "  size 256",
        '  elements = { "vnet0" : goto to-web }',
        " }",
        "",
        " chain forward {",
        "  type filter hook forward priority -400; policy drop;",
        "  iifname vmap @ports",
        '  meta protocol arp accept comment "ARP & co"',
        "  ether saddr != 02:00:00:00:00:01 drop",
        "  ip saddr 10.0.0.0/24 counter packets 0 bytes 0 jump to-web",
        '  limit rate 10/second log prefix "denied" group 7 snaplen 64 drop',
        "  meta mark set 0x00000002",
        " }",
        "",
        " chain to-web {",
        " }",
        "}",
        "",
    ]


@needs_nft
@in_own_network
def test_what_nft_writes_is_read_as_the_kernel_keeps_it(nftables: Nftables) -> None:
    nft(
        "table bridge own {",
        "  set pairs { type ether_addr . ipv4_addr; size 10; elements = { 02:00:00:00:00:01 . 10.0.0.1 } }",
        "  map to { type ipv4_addr : verdict; elements = { 10.0.0.1 : jump web, 10.0.0.2 : drop } }",
        "  map marks { type inet_service : mark; elements = { 22 : 1, 443 : 0x02000000 } }",
        "  set seen { type ipv4_addr; size 5; flags dynamic, timeout; timeout 1m; }",
        '  chain web { accept comment "web"\n }',
        "  chain forward { type filter hook forward priority -300; policy drop;",
        "    ether saddr . ip saddr @pairs meta mark set tcp dport map @marks",
        "    ip daddr vmap @to",
        "    tcp dport >= 1024 counter drop",
        "    tcp dport != 80-90 accept",
        '    iifname "vnet*" drop',
        "    ether type 8021q goto web",
        "    update @seen { ip saddr timeout 5s }",
        '    limit rate 10/minute burst 3 packets log prefix "no " group 2 snaplen 32',
        "  }",
        "}",
    )
    found = nftables.read("own")
    ip = (Meta(4, Key.PROTOCOL), Compare(4, Operator.EQUAL, b"\x08\0"))
    tcp = (Meta(4, Key.TRANSPORT_PROTOCOL), Compare(4, Operator.EQUAL, b"\6"))
    forward, web = found.table.chains
    assert (forward.hook, forward.priority, forward.policy) == (Hook.FORWARD, -300, Code.DROP)
    assert web == Chain("web", (Rule((Immediate(ACCEPT),), "web"),))

    def of(rule: Rule) -> list[object]:
        """The expressions without their registers, which are nft's own choice."""
        return [replace(e, register=0) if hasattr(e, "register") else e for e in rule.expressions]

    ip_, tcp_ = of(Rule(ip)), of(Rule(tcp))
    expected = [
        [
            *ip_,
            *tcp_,
            Payload(0, Base.LINK, 6, 6),
            Payload(0, Base.NETWORK, 12, 4),
            Lookup("pairs", 0),
            Payload(0, Base.TRANSPORT, 2, 2),
            Lookup("marks", 0, 0),
            SetMark(0),
        ],
        [*ip_, Payload(0, Base.NETWORK, 16, 4), Lookup("to", 0, verdicts=True)],
        [
            *tcp_,
            Payload(0, Base.TRANSPORT, 2, 2),
            Compare(0, Operator.GREATER_OR_EQUAL, b"\4\0"),
            Counter(),
            Immediate(DROP),
        ],
        [
            *tcp_,
            Payload(0, Base.TRANSPORT, 2, 2),
            Range(0, b"\0\x50", b"\0\x5a", inverted=True),
            Immediate(ACCEPT),
        ],
        [Meta(0, Key.INPUT_NAME), Compare(0, Operator.EQUAL, b"vnet"), Immediate(DROP)],
        [
            Payload(0, Base.LINK, 12, 2),
            Compare(0, Operator.EQUAL, b"\x81\0"),
            Immediate(Verdict(Code.GOTO, "web")),
        ],
        [*ip_, Payload(0, Base.NETWORK, 12, 4), Update("seen", 0, 5000)],
        [Limit(10, 60, 3), Log(2, "no ", 32)],
    ]
    for rule, wanted in zip(forward.rules, expected, strict=True):
        rest = [e if not isinstance(e, Lookup) else replace(e, target=e.target and 0) for e in of(rule)]
        assert sorted(map(repr, rest)) == sorted(map(repr, wanted))
    assert found.elements == {
        "marks": {b"\0\x16": b"\1\0\0\0", b"\1\xbb": b"\0\0\0\2"},
        "pairs": {b"\2\0\0\0\0\1\0\0\x0a\0\0\1": None},
        "seen": {},
        "to": {b"\x0a\0\0\1": Verdict(Code.JUMP, "web"), b"\x0a\0\0\2": DROP},
    }
    assert found.table.sets == (
        SetDefinition("marks", ("inet_service",), "mark", 0),
        SetDefinition("pairs", ("ether_addr", "ipv4_addr"), "", 10),
        SetDefinition("seen", ("ipv4_addr",), "", 5, dynamic=True, timeout_ms=60_000),
        SetDefinition("to", ("ipv4_addr",), "verdict", 0),
    )


@needs_nft
@in_own_network
def test_what_the_model_does_not_know_is_read_as_unknown(nftables: Nftables) -> None:
    nft(
        "table bridge own {",
        "  set nets { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }",
        '  map names { type ipv4_addr : ifname; elements = { 10.0.0.1 : "vnet0" } }',
        "  set limited { type ipv4_addr; size 5; flags dynamic; }",
        "  set rest { type ipv4_addr; elements = { *, 10.0.0.1 } }",
        "  set counted { type ipv4_addr; counter; elements = { 10.0.0.1 } }",
        "  chain forward { type filter hook forward priority 0;",
        "    meta cpu 1 drop",
        "    numgen random mod 2 0 accept",
        "    ether saddr set 02:00:00:00:00:09",
        "    add @limited { ip saddr }",
        "    log level warn",
        "    meta rtclassid 7 drop",
        "    ip saddr { 10.0.0.1, 10.0.0.2 } accept",
        "  }",
        "}",
    )
    found = nftables.read("own")
    unknown = {definition.name: definition.unknown for definition in found.table.sets}
    assert unknown["nets"][0] == "intervals"
    assert unknown["names"] == ("data of type 41",)
    assert unknown["rest"] == ("an element for all other keys",)
    assert "expressions for each element" in unknown["counted"]
    assert unknown["limited"] == unknown["__set0"] == ()
    (chain,) = found.table.chains
    for rule in chain.rules[:6]:
        assert any(isinstance(expression, Unknown) for expression in rule.expressions), rule
    last = chain.rules[6]
    assert not any(isinstance(expression, Unknown) for expression in last.expressions)
    (anonymous,) = (definition for definition in found.table.sets if definition.anonymous)
    assert set(found.elements[anonymous.name]) == {b"\x0a\0\0\1", b"\x0a\0\0\2"}


@needs_nft
@in_own_network
def test_whatever_somebody_put_into_the_table_goes_and_open_flows_stay(nftables: Nftables) -> None:
    flows = SetDefinition("flows", ("mark",), "", 64, dynamic=True, timeout_ms=60_000)
    base = small(BY_PORT, BY_HOST)
    wanted = replace(base, table=replace(base.table, sets=(flows, *base.table.sets)))
    wanted = replace(wanted, elements={**wanted.elements, "flows": {}})
    nftables.replace(wanted)
    nftables.change(wanted.table, {"flows": {b"\1\0\0\0": None}}, {})
    for injected in (
        "insert rule bridge undercroft forward accept",
        "insert rule bridge undercroft forward ip saddr { 1.2.3.4, 1.2.3.5 } accept",
        "insert rule bridge undercroft to-web ip saddr 10.0.0.0/8 numgen random mod 2 0 accept",
        "add chain bridge undercroft mine { type filter hook forward priority -500; }",
        "add chain bridge undercroft more\nadd rule bridge undercroft to-web jump more",
        "add set bridge undercroft nets { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }",
        'add element bridge undercroft ports { "vnet9" : accept }',
        'delete element bridge undercroft ports { "vnet0" }',
        "add element bridge undercroft hosts { 10.0.0.9 }",
        "chain bridge undercroft forward { policy accept; }",
        "flush chain bridge undercroft forward",
    ):
        nft(injected)
        assert not same(nftables.read("undercroft"), wanted), injected
        assert nftables.replace(wanted) == nftables.generation()
        found = nftables.read("undercroft")
        assert found.table == wanted.table, injected
        assert found.elements == {**wanted.elements, "flows": {b"\1\0\0\0": None}}, injected


@needs_nft
@in_own_network
def test_flags_and_chains_of_single_rules_go_too(nftables: Nftables) -> None:
    wanted = small(BY_PORT)
    nftables.replace(wanted)
    nft("table bridge undercroft { flags dormant; }")
    assert nftables.read("undercroft").table.flags == 1
    nftables.replace(wanted)
    assert same(nftables.read("undercroft"), wanted)
    nft("add rule bridge undercroft to-web ether saddr 02:00:00:00:00:01 jump {\naccept\n}")
    assert [chain.bound for chain in nftables.read("undercroft").table.chains] == [True, False, False]
    nftables.replace(wanted)
    assert same(nftables.read("undercroft"), wanted)


@in_own_network
def test_where_no_change_of_the_table_is_taken_it_is_made_anew(
    nftables: Nftables, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = nftables.replace(small(BY_PORT))
    in_use = [codec.delete_chain("undercroft", "to-web")]
    monkeypatch.setattr("undercroft.adapters.nftables.connection.stages", lambda *_: [in_use])
    assert nftables.replace(small(BY_HOST)) == before + 1
    assert same(nftables.read("undercroft"), small(BY_HOST))


@in_own_network
def test_a_table_that_cannot_be_read_is_made_anew(
    nftables: Nftables, monkeypatch: pytest.MonkeyPatch
) -> None:
    nftables.replace(small(BY_PORT))
    with monkeypatch.context() as patched:
        patched.setattr("undercroft.adapters.nftables.codec._HOOKS", {})
        with pytest.raises(OperationError, match="cannot read"):
            nftables.read("undercroft")
        nftables.replace(small(BY_HOST))
    assert same(nftables.read("undercroft"), small(BY_HOST))


@needs_nft
@in_own_network
def test_no_other_table_is_touched(nftables: Nftables) -> None:
    others = [
        "table bridge libvirt { chain forward { type filter hook forward priority 0; accept; } }",
        "table inet undercroft { set s { type ipv4_addr; elements = { 10.0.0.1 } } }",
        "table ip undercroft { chain c { counter accept; } }",
        "table netdev undercroft { }",
    ]
    nft(*(line.replace("{ ", "{\n").replace("; }", "\n}").replace(" }", "\n}") for line in others))
    before = nft("list ruleset")
    nftables.replace(small(BY_PORT))
    nftables.change(small().table, {"ports": {port("vnet1"): DROP}}, {"ports": [port("vnet0")]})
    nftables.replace(small(BY_HOST))
    nftables.features()
    assert nftables.tables() == tuple(
        TableName(family, name)
        for family, name in (
            ("bridge", "libvirt"),
            ("bridge", "undercroft"),
            ("inet", "undercroft"),
            ("ip", "undercroft"),
            ("netdev", "undercroft"),
        )
    )
    nftables.delete("undercroft")
    assert nft("list ruleset") == before


@in_own_network
def test_rules_that_stay_are_the_same_objects_in_the_kernel(nftables: Nftables) -> None:
    """Their counters go on: a chain that does not change is not made again."""
    counted = Rule((Counter(), Immediate(ACCEPT)))
    nftables.replace(small(counted))
    subprocess.run(["ip", "link", "add", "lab0", "type", "bridge"], check=True)
    handles = subprocess.run(
        ["nft", "-a", "list", "table", "bridge", "undercroft"], capture_output=True, check=True
    )
    nftables.replace(small(counted, hosts=(b"\x0a\0\0\1",)))
    again = subprocess.run(
        ["nft", "-a", "list", "table", "bridge", "undercroft"], capture_output=True, check=True
    )
    kept = [line for line in handles.stdout.splitlines() if b"# handle" in line]
    assert kept
    assert kept == [line for line in again.stdout.splitlines() if b"# handle" in line]


@in_own_network
def test_an_owned_table_is_refused(nftables: Nftables) -> None:
    owned = small()
    with pytest.raises(InputError, match="is owned"):
        nftables.replace(replace(owned, table=replace(owned.table, flags=2)))


@in_own_network
def test_a_feature_that_the_kernel_lacks_is_named_and_the_old_table_stays(nftables: Nftables) -> None:
    wanted = small(BY_PORT)
    nftables.replace(wanted)
    if nftables.features().conntrack:
        pytest.skip("this kernel has conntrack on bridges")
    with pytest.raises(OperationError, match=r"rule 1 of chain 'forward' .* this kernel lacks") as refused:
        nftables.replace(small(Rule((Conntrack(0), Immediate(ACCEPT)))))
    assert "undercroft doctor" in str(refused.value)
    assert same(nftables.read("undercroft"), wanted)


@in_own_network
def test_a_rule_that_the_kernel_refuses_is_named(nftables: Nftables) -> None:
    with pytest.raises(OperationError, match="rule 2 of chain 'forward' of table 'undercroft'"):
        nftables.replace(small(BY_PORT, Rule((Lookup("nowhere", 0),))))
    with pytest.raises(OperationError):
        nftables.replace(small(Rule((Immediate(Verdict(Code.JUMP, "forward")),))))
    assert nftables.tables() == ()


@in_own_network
def test_a_port_that_vanishes_meanwhile_stops_no_change(nftables: Nftables) -> None:
    wanted = small(BY_PORT)
    nftables.replace(wanted)
    for number in range(20):
        subprocess.run(["ip", "link", "add", "vnet7", "type", "bridge"], check=True)
        gone = subprocess.Popen(["ip", "link", "delete", "vnet7"])
        nftables.change(wanted.table, {"ports": {port("vnet7"): WEB}}, {})
        nftables.change(wanted.table, {}, {"ports": [port("vnet7")]})
        assert gone.wait() == 0, number
    assert same(nftables.read("undercroft"), wanted)


@needs_nft
@in_own_network
def test_a_change_by_another_program_is_seen_before_it_is_overwritten(nftables: Nftables) -> None:
    wanted = small(BY_PORT)
    read_at = nftables.replace(wanted)
    nft("add element bridge undercroft hosts { 10.0.0.1 }")
    with pytest.raises(StateError, match="meanwhile"):
        nftables.change(wanted.table, {"hosts": {b"\x0a\0\0\2": None}}, {}, read_at)
    with pytest.raises(StateError, match="meanwhile"):
        nftables.replace(wanted, read_at)
    assert nftables.read("undercroft").elements["hosts"] == {b"\x0a\0\0\1": None}
    nft("add table ip other")
    with pytest.raises(StateError, match="meanwhile"):
        nftables.delete("undercroft", read_at + 1)


@needs_nft
@in_own_network
def test_the_watcher_names_who_changed_and_misses_nothing_of_a_large_change(nftables: Nftables) -> None:
    many = small(hosts=tuple(number.to_bytes(4, "big") for number in range(200)))
    large = replace(many, elements={"hosts": {n.to_bytes(4, "big"): None for n in range(100)}})

    async def watch() -> list[tuple[int, str]]:
        changes = nftables.watch()
        seen = [await anext(changes)]
        nftables.replace(large)
        nft("add table ip other")
        seen += [await anext(changes), await anext(changes)]
        await changes.aclose()  # type: ignore[attr-defined]
        return [(change.generation, change.process_name) for change in seen]

    (start, nobody), (ours, _), (theirs, name) = asyncio.run(watch())
    assert (ours, theirs) == (start + 1, start + 2)
    assert (nobody, name) == ("", "nft")


@in_own_network
def test_a_watcher_that_is_late_gets_the_last_number(nftables: Nftables) -> None:
    from undercroft.adapters.nftables.events import changes  # noqa: PLC0415 - with a small room

    wanted = small()
    nftables.replace(wanted)

    async def watch() -> list[int]:
        found = changes(nftables.generation, receive_bytes=2048)
        numbers = [(await anext(found)).generation]
        for number in range(300):
            nftables.change(
                wanted.table,
                {"hosts": {number.to_bytes(4, "big"): None}} if number < 200 else {},
                {"hosts": [(number - 200).to_bytes(4, "big")]} if number >= 200 else {},
            )
        while numbers[-1] != nftables.generation():
            numbers.append((await anext(found)).generation)
        await found.aclose()  # type: ignore[attr-defined]
        return numbers

    numbers = asyncio.run(watch())
    assert numbers[-1] == numbers[0] + 300
    assert len(numbers) < 300


@in_own_network
def test_threads_change_and_read_at_once(nftables: Nftables) -> None:
    wanted = small(BY_PORT)
    nftables.replace(wanted)
    errors: list[BaseException] = []
    network = open("/proc/thread-self/ns/net")  # noqa: SIM115 - it is closed below

    def work(first: int) -> None:
        try:
            import ctypes  # noqa: PLC0415

            ctypes.CDLL(None).setns(network.fileno(), 0)
            for number in range(first, first + 50):
                key = number.to_bytes(4, "big")
                nftables.change(wanted.table, {"hosts": {key: None}}, {})
                assert key in nftables.read("undercroft").elements["hosts"]
                nftables.change(wanted.table, {}, {"hosts": [key]})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number * 1000,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    network.close()
    assert errors == []
    assert same(nftables.read("undercroft"), wanted)


def test_without_the_capability_it_is_denied_with_the_cure() -> None:
    script = (
        "from undercroft.adapters.nftables import Nftables\n"
        "from undercroft.errors import DeniedError\n"
        "for call in (lambda n: n.generation(), lambda n: n.read('x'), lambda n: n.features()):\n"
        "    try: call(Nftables())\n"
        "    except DeniedError as error: print(error)\n"
    )
    import sys  # noqa: PLC0415

    command = ["unshare", "--net", "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    done = subprocess.run(
        [*command, sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all("CAP_NET_ADMIN" in line for line in lines)
