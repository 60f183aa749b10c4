"""The firewall's benchmarks: their policy, which is the one of the README's kind, and their machines.

Every second machine is a web server, the others are databases, and one in a hundred is quarantined. Each has
an IPv4 and an IPv6 address. Machine N is on the tap vnetN, the same in every fleet.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from undercroft.firewall.fleet import Elsewhere, Fleet, Port
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.reading import load_firewall

WEB, DB, QUARANTINE = frozenset({"web"}), frozenset({"db"}), frozenset({"quarantine"})
SERVICE = 5432
HOST = "host1"
HOST_ADDRESSES = (IPv4Address("10.0.0.1"),)
_POLICY = """\
version: 1
labels:
  web: {{machines: "web*"}}
  db: {{machines: "db*"}}
  quarantine: {{verdict: quarantined}}
addresses: {{patch-mirror: 192.0.2.10}}
firewall:
  - {{from: web, to: db, allow: [tcp/{service}{more}]}}
  - {{from: world, to: web, allow: [tcp/443, tcp/80]}}
  - {{from: quarantine, to: patch-mirror, allow: [tcp/443]}}
never:
  - {{from: quarantine, to: "*", except: patch-mirror}}
  - {{from: world, to: db}}
ports: {{uplinks: [eth0]}}
"""


def policy(more: str = "") -> FirewallPolicy:
    """Return the policy; `more` are further services of databases, as ", tcp/5433"."""
    return load_firewall([("policy.yaml", _POLICY.format(service=SERVICE, more=more).encode())])


def labels(number: int) -> frozenset[str]:
    """Return the labels of a machine."""
    if number % 100 == 99:
        return QUARANTINE
    return WEB if number % 2 else DB


def name(number: int) -> str:
    """Return its name, from which its labels follow."""
    return f"{'web' if number % 2 else 'db'}{number}"


def port(number: int, has: frozenset[str] | None = None) -> Port:
    """Return the port of a machine; with other labels where they are given."""
    mac = bytes((0x52, 0x54, 0)) + number.to_bytes(3, "big")
    ipv4, ipv6 = IPv4Address(0x0A010000 + number), IPv6Address((0x20010DB8 << 96) + number)
    machine = f"00000000-0000-4000-8000-{number:012}"
    found = labels(number) if has is None else has
    return Port(machine, name(number), f"vnet{number}", mac, (ipv4,), (ipv6,), found, HOST)


def fleet(count: int) -> Fleet:
    """Return so many machines of this host, numbered from 1, and one of another."""
    elsewhere = Elsewhere("elsewhere", "web0", (IPv4Address("10.2.0.1"),), WEB, "host2")
    return Fleet(HOST, HOST_ADDRESSES, tuple(map(port, range(1, count + 1))), (elsewhere,))


def pairs(count: int, ways: int) -> Iterator[tuple[Port, Port]]:
    """Yield web servers with the databases that they talk to, spread over the whole fleet."""
    for way in range(ways):
        web = (way * count // ways) & ~1 | 1
        db = min(web + count // (2 * ways) & ~1 | 1, count - 3) + 1
        yield port(web), port(db)
