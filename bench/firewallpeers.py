"""What the firewall is measured beside: rules one after the other, and what libvirt's nwfilter makes."""

import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import firewallfleet as machines
from undercroft.adapters.nftables import Nftables
from undercroft.usecases.firewall.enforcing import Enforcer


def nothing(_count: int) -> None:
    """A bridge alone."""


def undercroft(count: int) -> None:
    """Our table, as the agent puts it into the kernel."""
    with tempfile.TemporaryDirectory() as folder, Nftables() as kernel:
        enforcer = Enforcer(kernel, Path(folder) / "numbers", lambda: datetime.now(UTC))
        enforcer.recall()
        enforcer.enforce(machines.policy(), machines.fleet(count))


def linear(count: int) -> None:
    """Five rules for each machine, one after the other, as a script writes them that knows no sets.

    Three look at who sends, all machines' before any is let through; two let the database's service and its
    answers through. They look at no IPv6, no services but this one, and at no state: less than ours.
    """
    senders, allowed = [], []
    for number in range(1, count + 1):
        port = machines.port(number)
        tap, mac, address = f'"{port.tap}"', port.mac.hex(":"), port.ipv4[0]
        senders += [
            f"iifname {tap} ether saddr != {mac} drop",
            f"iifname {tap} ether type ip ip saddr != {address} drop",
            f"iifname {tap} ether type arp arp saddr ip != {address} drop",
        ]
        allowed += [
            f"oifname {tap} ip daddr {address} tcp dport {machines.SERVICE} accept",
            f"oifname {tap} ip daddr {address} tcp sport {machines.SERVICE} accept",
        ]
    first = "type filter hook prerouting priority -300; policy accept;"
    second = "type filter hook forward priority -200; policy drop;"
    text = [
        "table bridge linear {",
        f"chain senders {{ {first}",
        *senders,
        "}",
        f"chain allowed {{ {second}",
        *allowed,
        "}",
        "}",
    ]
    _load(["nft", "-f", "-"], text)


def nwfilter(count: int) -> None:
    """What libvirt 9.0 has in the kernel for machines with `<filterref filter='clean-traffic'>` and an IP.

    Taken from ebtables-nft-save after libvirtd had started two of them; it makes them by ebtables, which is
    Debian's ebtables-nft. It filters senders only: whom a machine may speak to is no part of clean-traffic.
    """
    lines = ["*nat", ":PREROUTING ACCEPT", ":OUTPUT ACCEPT", ":POSTROUTING ACCEPT"]
    rules: list[str] = []
    jumps: list[str] = []
    for number in range(1, count + 1):
        port = machines.port(number)
        tap = port.tap
        lines += [f":{chain.format(tap=tap)} ACCEPT" for chain in _CHAINS]
        jumps += [f"-A PREROUTING -i {tap} -j libvirt-I-{tap}"]
        rules += [rule.format(tap=tap, mac=port.mac.hex(":"), ip=port.ipv4[0]) for rule in _RULES]
    jumps += [jump.replace("PREROUTING -i", "POSTROUTING -o").replace("-I-", "-O-") for jump in jumps]
    _load(["ebtables-nft-restore"], [*lines, *jumps, *rules])


def sets_of_machines(count: int) -> str:
    """Return sets for `nft -f` as long as ours: of taps, of senders, and of who is behind which tap."""
    elements: dict[str, list[str]] = {name: [] for name in _SETS}
    for number in range(1, count + 1):
        port = machines.port(number)
        tap, mac = f'"{port.tap}"', port.mac.hex(":")
        elements["taps"].append(tap)
        elements["classes"].append(f"{tap} : {number % 3}")
        elements["macs"].append(f"{tap} . {mac}")
        for version, addresses in (("4", port.ipv4), ("6", port.all_ipv6)):
            for address in addresses:
                elements["sources" + version].append(f"{tap} . {mac} . {address}")
                elements["targets" + version].append(f"{tap} . {mac} . {address} : {number % 3}")
                elements["near" + version].append(f"{tap} . {address} : {number % 3}")
                elements["outside" + version].append(f"{address} : 1")
                if not address.is_link_local:
                    elements["places" + version].append(f"{address} : {number % 3}")
    blocks = (
        f"{'map' if ':' in kind else 'set'} {name} {{ type {kind}; elements = {{ {', '.join(found)} }} }}"
        for (name, kind), found in zip(_SETS.items(), elements.values(), strict=True)
    )
    return "\n".join(["table bridge sets {", *blocks, "}", ""])


def missing() -> str:
    """Return why a peer cannot be had, "" where all can."""
    absent = [command for command in ("nft", "ebtables-nft-restore") if shutil.which(command) is None]
    return f"{', '.join(absent)} is not here: apt-get install nftables iptables" if absent else ""


def _load(command: list[str], lines: list[str]) -> None:
    subprocess.run(command, input="\n".join([*lines, ""]).encode(), check=True, stdout=subprocess.DEVNULL)


_FRAME = "ifname . ether_addr"
_SETS = {"taps": "ifname", "classes": "ifname : mark", "macs": _FRAME}
for _version in ("4", "6"):
    _address = f"ipv{_version}_addr"
    _SETS[f"sources{_version}"] = f"{_FRAME} . {_address}"
    _SETS[f"targets{_version}"] = f"{_FRAME} . {_address} : mark"
    _SETS[f"near{_version}"] = f"ifname . {_address} : mark"
    _SETS[f"outside{_version}"] = f"{_address} : mark"
    _SETS[f"places{_version}"] = f"{_address} : mark"
_CHAINS = (
    *("I-{tap}-arp-ip", "I-{tap}-arp-mac", "I-{tap}-ipv4-ip", "I-{tap}-mac", "I-{tap}-rarp"),
    *("O-{tap}-ipv4", "O-{tap}-rarp", "libvirt-I-{tap}", "libvirt-O-{tap}"),
)
_RARP = (
    "--arp-op Request_Reverse --arp-ip-src 0.0.0.0 --arp-ip-dst 0.0.0.0"
    " --arp-mac-src {mac} --arp-mac-dst {mac}"
)
_RULES = (
    "-A I-{tap}-arp-ip -p ARP --arp-ip-src {ip} -j RETURN",
    "-A I-{tap}-arp-ip -j DROP",
    "-A I-{tap}-arp-mac -p ARP --arp-mac-src {mac} -j RETURN",
    "-A I-{tap}-arp-mac -j DROP",
    "-A I-{tap}-ipv4-ip -p IPv4 --ip-src 0.0.0.0 --ip-proto udp -j RETURN",
    "-A I-{tap}-ipv4-ip -p IPv4 --ip-src {ip} -j RETURN",
    "-A I-{tap}-ipv4-ip -j DROP",
    "-A I-{tap}-mac -s {mac} -j RETURN",
    "-A I-{tap}-mac -j DROP",
    "-A I-{tap}-rarp -p RARP -s {mac} -d Broadcast " + _RARP + " -j ACCEPT",
    "-A I-{tap}-rarp -j DROP",
    "-A O-{tap}-ipv4 -j ACCEPT",
    "-A O-{tap}-rarp -p RARP -d Broadcast " + _RARP + " -j ACCEPT",
    "-A O-{tap}-rarp -j DROP",
    "-A libvirt-I-{tap} -j I-{tap}-mac",
    "-A libvirt-I-{tap} -p IPv4 -j I-{tap}-ipv4-ip",
    "-A libvirt-I-{tap} -p IPv4 -j ACCEPT",
    "-A libvirt-I-{tap} -p ARP -j I-{tap}-arp-mac",
    "-A libvirt-I-{tap} -p ARP -j I-{tap}-arp-ip",
    "-A libvirt-I-{tap} -p ARP -j ACCEPT",
    "-A libvirt-I-{tap} -p RARP -j I-{tap}-rarp",
    "-A libvirt-I-{tap} -p 0x835 -j ACCEPT",
    "-A libvirt-I-{tap} -j DROP",
    "-A libvirt-O-{tap} -p IPv4 -j O-{tap}-ipv4",
    "-A libvirt-O-{tap} -p ARP -j ACCEPT",
    "-A libvirt-O-{tap} -p RARP -j O-{tap}-rarp",
    "-A libvirt-O-{tap} -j DROP",
)
