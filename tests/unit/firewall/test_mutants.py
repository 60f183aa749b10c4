"""Changed rules are told from the policy's meaning by packets: the campaign would see a wrong compiler."""

import random
from dataclasses import replace

from firewallworld import FLEET, POLICY, Frames, memory_of, routed_mark, ruleset, with_entries, with_room
from rulemutants import rule_mutants

from undercroft.firewall.decisions import Remembered
from undercroft.firewall.kernel import Code, Immediate
from undercroft.firewall.meaning import Meaning
from undercroft.firewall.packets import parse
from undercroft.firewall.simulate import Memory, follow

PACKETS = 6_000
DENIED = 40  # of each chain
EVERY = 31
EQUIVALENT_OR_RARE_SHARE = 0.33  # what a later rule does too, log lines, denials of what nothing allows


def corpus(rules, count, seed):
    """Return packets with what the policy means, by the chains that they go through."""
    frames, meaning, remembered = Frames(random.Random(seed)), Meaning(POLICY, FLEET), Remembered()
    by_chain = {chain.name: [] for chain in rules.table.chains}
    targets = {
        (chain.name, number): [item.verdict.chain for item in rule.expressions if isinstance(item, Immediate)]
        for chain in rules.table.chains
        for number, rule in enumerate(chain.rules)
    }
    for _ in range(count):
        path, frame = frames.draw(remembered)
        packet = parse(frame)
        if packet is None:
            continue
        decision = meaning.decide(packet, path, remembered)
        memory = memory_of(remembered)
        known = {name: frozenset(keys) for name, keys in memory.sets.items()}
        outcome = follow(rules, packet, path, memory, routed_mark(path))
        visited = {chain.name for chain in rules.table.chains if chain.hook} | {
            name for name, _ in outcome.way
        }
        visited |= {target for step in outcome.way for target in targets[step] if target}
        for name in visited:
            if len(by_chain[name]) < 1500:
                by_chain[name].append((path, packet, known, decision.accept, memory.sets))
        if decision.reason in {"allowed", "an answer"}:
            frames.note(path, frame)
        if decision.remember:
            remembered = with_entries(remembered, decision.remember)
        remembered = with_room(remembered)
    return by_chain


def told_apart(mutant, packets):
    for path, packet, known, accept, after in packets:
        memory = Memory({name: set(keys) for name, keys in known.items()})
        outcome = follow(mutant, packet, path, memory, routed_mark(path))
        if outcome.accept is not accept or memory.sets != after:
            return True
    return False


def test_a_chain_that_has_lost_rules_at_its_end_still_denies_what_it_denied():
    rules = ruleset()
    packets = corpus(rules, PACKETS, 11)
    denied = {name: [item for item in found if not item[3]][:DENIED] for name, found in packets.items()}
    cut_short = 0
    for place, chain in enumerate(rules.table.chains):
        for kept in range(len(chain.rules)):
            mutant = with_chain(rules, place, replace(chain, rules=chain.rules[:kept]))
            for path, packet, known, _, _ in denied[chain.name]:
                memory = Memory({name: set(keys) for name, keys in known.items()})
                assert not follow(mutant, packet, path, memory, routed_mark(path)).accept, (chain.name, kept)
                cut_short += 1
    assert cut_short > 5_000


def test_control_where_base_chains_accept_the_rest_a_lost_rule_lets_packets_by():
    rules = ruleset()
    chains = tuple(replace(chain, policy=Code.ACCEPT) for chain in rules.table.chains)
    accepting = replace(rules, table=replace(rules.table, chains=chains))
    (place, chain), *_ = ((n, item) for n, item in enumerate(chains) if item.name == "sender4")
    mutant = with_chain(accepting, place, replace(chain, rules=chain.rules[:-1]))
    denied = [item for item in corpus(rules, PACKETS // 3, 11)["sender4"] if not item[3]]
    assert not any(
        follow(accepting, packet, path, Memory(), routed_mark(path)).accept for path, packet, *_ in denied
    )
    assert any(
        follow(mutant, packet, path, Memory(), routed_mark(path)).accept for path, packet, *_ in denied
    )


def with_chain(rules, place, chain):
    chains = rules.table.chains
    return replace(rules, table=replace(rules.table, chains=(*chains[:place], chain, *chains[place + 1 :])))


def test_most_changes_of_a_rule_are_told_apart_by_packets():
    rules = ruleset()
    packets = corpus(rules, PACKETS, 7)
    mutants = [item for item in rule_mutants(rules) if packets[item[0].partition("[")[0]]][3::EVERY]
    alive = [name for name, mutant in mutants if not told_apart(mutant, packets[name.partition("[")[0]])]
    assert len(mutants) > 40
    assert len(alive) < len(mutants) * EQUIVALENT_OR_RARE_SHARE, alive
