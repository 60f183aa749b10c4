"""The compiler's policies in the kernel: written by us, or by nft from their text, and read back."""

import shutil
import subprocess
from dataclasses import replace

import pytest
from firewallworld import OPEN_PORTS, POLICY, ruleset
from netns import in_own_network

from undercroft.adapters.nftables import Nftables
from undercroft.firewall.kernel import Chain, Ruleset, Table
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.text import render
from undercroft.firewall.tracking import StateKind

policies = pytest.mark.parametrize("policy", [POLICY, OPEN_PORTS], ids=["closed", "open"])


def in_order(table: Table) -> Table:
    return replace(
        table,
        sets=tuple(sorted(table.sets, key=lambda definition: definition.name)),
        chains=tuple(sorted(table.chains, key=lambda chain: chain.name)),
    )


def filled(wanted: Ruleset) -> dict[str, object]:
    return {name: elements for name, elements in wanted.elements.items() if elements}


@policies
@in_own_network
def test_a_compiled_policy_is_read_back_from_the_kernel_as_compiled(policy: FirewallPolicy) -> None:
    wanted = ruleset(policy, StateKind.TUPLES)
    with Nftables() as nftables:
        nftables.replace(wanted)
        found = nftables.read(wanted.table.name)
        assert found.table == in_order(wanted.table)
        assert filled(found) == filled(wanted)
        assert nftables.replace(wanted) == 0


@in_own_network
def test_one_policy_becomes_the_other_and_back() -> None:
    with Nftables() as nftables:
        for policy in (POLICY, OPEN_PORTS, POLICY):
            wanted = ruleset(policy, StateKind.TUPLES)
            nftables.replace(wanted)
            found = nftables.read(wanted.table.name)
            assert (found.table, filled(found)) == (in_order(wanted.table), filled(wanted))


@policies
@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft: apt-get install nftables")
@in_own_network
def test_what_nft_makes_of_the_text_has_the_same_chains_sets_and_elements(policy: FirewallPolicy) -> None:
    wanted = ruleset(policy, StateKind.TUPLES)
    subprocess.run(["nft", "-f", "-"], input=render(wanted), text=True, check=True)
    with Nftables() as nftables:
        found = nftables.read(wanted.table.name)
    assert [place(chain) for chain in found.table.chains] == [place(c) for c in in_order(wanted.table).chains]
    assert [(s.name, s.data, s.dynamic) for s in found.table.sets if not s.anonymous] == [
        (s.name, s.data, s.dynamic) for s in in_order(wanted.table).sets
    ]
    for name, elements in filled(wanted).items():
        assert found.elements[name] == elements, name


def place(chain: Chain) -> tuple[object, ...]:
    return (chain.name, chain.hook, chain.priority, chain.policy)
