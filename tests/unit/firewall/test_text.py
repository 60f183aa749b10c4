"""The table as text: nft accepts it, and people can read it."""

import re
import shutil
import subprocess

import pytest
from firewallworld import POLICIES, POLICY, VLAN_POLICY, ruleset

from undercroft.firewall.text import render, render_chain
from undercroft.firewall.tracking import StateKind

needs_nft = pytest.mark.skipif(not shutil.which("nft"), reason="nft is no part of the product")


def complaints(text, tmp_path):
    """Return what nft says of a text, in a network namespace of its own."""
    file = tmp_path / "table.nft"
    file.write_text(text)
    command = ["unshare", "--net", "nft", "--check", "--file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stderr


@needs_nft
@pytest.mark.parametrize("policy", POLICIES)
def test_nft_accepts_the_table(policy, tmp_path):
    assert complaints(render(ruleset(policy)), tmp_path) == ""


@needs_nft
def test_nft_accepts_the_table_with_conntrack_but_for_what_this_kernel_lacks(tmp_path):
    said = complaints(render(ruleset(POLICY, StateKind.CONNTRACK)), tmp_path)
    errors = re.findall(r"Error: (.*)\n(.*)", said)
    assert all(
        error == "Could not process rule: Protocol error" and "ct state" in line for error, line in errors
    )


@needs_nft
def test_nft_does_not_accept_a_chain_that_is_missing(tmp_path):
    text = render(ruleset())
    assert complaints(re.sub(r"\tchain answered \{.*?\n\t\}\n", "", text, flags=re.DOTALL), tmp_path)


def test_only_rules_about_ports_inside_errors_and_by_what_a_map_gives_have_no_text():
    unsaid = [line for line in render(ruleset()).splitlines() if "# bytecode only" in line]
    known = ("@flows", "@tries", "@knocks")
    by_class = [line for line in unsaid if not any(name in line for name in known)]
    errors = [line for line in unsaid if line not in by_class]
    assert (len(by_class), len(errors)) == (23, 24)
    assert all("accept" in line for line in errors)
    assert "\t\t# bytecode only: meta protocol 0x800 ip saddr @outside4 == 0x55430000 goto deny" in by_class


def test_a_target_by_its_machines_class_reads_as_both_look_ups():
    table = ruleset().table
    chain = next(chain for chain in table.chains if chain.name == "reach4")
    assert render_chain(chain, table)[1:4] == [
        "\t\t@nh,48,16 & 0x3fff != 0x0 goto reach-pieces4",
        "\t\t# bytecode only: (oifname . ether daddr . ip daddr map @targets4) vmap @class-whole",
        "\t\t# bytecode only: oifname . ether daddr . ip daddr @targets4 goto deny",
    ]


def test_rules_about_granted_vlans_read_as_what_they_look_up():
    table = ruleset(VLAN_POLICY).table
    chains = {chain.name: render_chain(chain, table) for chain in table.chains}
    assert chains["managed"][5:] == [
        "\t\t# bytecode only: @ll,96,16 == 0x8100 meta mark . (@ll,112,16 & 0xfff) @vlans "
        "goto managed-tagged",
        "\t\tgoto deny",
        "\t}",
    ]
    assert chains["reach-tagged"][1:] == [
        "\t\t# bytecode only: (oifname map @classes) . (@ll,112,16 & 0xfff) @vlans goto reach-inside",
        "\t\toifname != @uplinks goto deny",
        '\t\tmeta oifkind "tun" goto deny',
        "\t\tgoto reach-inside",
        "\t}",
    ]
    assert chains["reach-inside"][1] == "\t\tmeta protocol 0x800 goto reach4"
    assert not any("vlans" in line for line in render(ruleset()).splitlines())


def test_a_targets_chain_reads_as_the_policy_does():
    table = ruleset().table
    chain = next(chain for chain in table.chains if chain.name == "to-host")
    assert render_chain(chain, table) == [
        "\tchain to-host {",
        "\t\tmeta protocol 0x800 @nh,48,16 & 0x1fff != 0x0 goto later-host",
        "\t\tmeta protocol 0x86dd ip6 nexthdr 44 @nh,336,16 & 0xfff8 != 0x0 goto later-host",
        "\t\tmeta mark . meta l4proto . th dport @to-host goto opened",
        "\t\tmeta mark . meta l4proto . th sport @back-host goto answered",
        "\t\tmeta mark @ping-host jump pinged",
        "\t\tmeta mark @pong-host jump ponged",
        "\t\tmeta mark @near-host goto other",
        "\t\tgoto deny",
        "\t}",
    ]
    sender = next(chain for chain in table.chains if chain.name == "sender4")
    assert (
        render_chain(sender, table)[4]
        == "\t\tmeta mark set iifname . ether saddr . ip saddr map @sources4 accept"
    )


def test_the_short_way_of_most_packets_reads_as_what_it_looks_up():
    table = ruleset().table
    chains = {chain.name: render_chain(chain, table) for chain in table.chains}
    assert chains["from-port"][2] == (
        "\t\t# bytecode only: @nh,0,8 == 0x45 ip protocol 6 meta mark set "
        "iifname . (@ll,48,64 ^ 0x800) . ip saddr map @sources4 accept"
    )
    assert chains["whole-2"][-4:-1] == [
        "\t\tmeta mark . ip protocol . th dport @to-2 goto whole-opened",
        "\t\tmeta mark . ip protocol . th sport @back-2 goto whole-answered",
        "\t\tgoto to-2",
    ]
