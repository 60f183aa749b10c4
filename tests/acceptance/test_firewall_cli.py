"""`undercroft firewall` on a real bridge: what it says is what the kernel does with real frames.

A network namespace of the test has the taps of the fleet in `firewallrecord`; the record is a file. What the
agent would do of itself, following the applied policy, is its own part of it, called by the test.
"""

import io
import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import firewallrecord as fleet
import pytest
import recordvalues as values
from netns import call_in_own_network
from program import PROGRAM

from undercroft.adapters.nftables import Nftables
from undercroft.adapters.surroundings.shielding import shield, shield_tap
from undercroft.agent.firewall import Firewall
from undercroft.cli.program import run as run_command
from undercroft.firewall.fleet import Port
from undercroft.model.domain import Power
from undercroft.model.execution import Origin
from undercroft.model.filter import FilterState
from undercroft.ports.records import Records
from undercroft.store.fleet.records import open_records
from undercroft.usecases.firewall.frames import Ends, opening
from undercroft.usecases.firewall.parties import service_of
from undercroft.usecases.fleet.audit.headfile import own_key

pytestmark = pytest.mark.xdist_group("firewall-cli")

HERE = socket.gethostname()
UPLINK_MAC = bytes.fromhex("02000000fffe")
TAPS = tuple(f"vnet{number}" for number in range(1, 6))
ARRIVES_S = 0.25
PLAIN = {"NO_COLOR": "1", "COLUMNS": "110"}
QUESTIONS = (
    ("web01", "db01", "tcp/5432"),
    ("web01", "db01", "tcp/22"),
    ("db01", "web01", "tcp/5432"),
    ("lost01", "db01", "tcp/5432"),
    ("web01", "198.51.100.9", "udp/53"),
    ("198.51.100.9", "web01", "tcp/443"),
    ("db02", "db01", "tcp/22"),
    ("sick01", "db01", "tcp/5432"),
)
PLACES = {
    "web01": ("vnet1", fleet.mac(1), "10.0.0.1"),
    "web02": ("vnet2", fleet.mac(2), "10.0.0.2"),
    "db01": ("vnet3", fleet.mac(3), "10.0.0.3"),
    "lost01": ("vnet4", fleet.mac(4), "10.0.0.4"),
    "db02": ("eth0", UPLINK_MAC.hex(), "10.0.0.6"),
    "sick01": ("eth0", UPLINK_MAC.hex(), "10.0.0.7"),
    "198.51.100.9": ("eth0", UPLINK_MAC.hex(), "198.51.100.9"),
}
"""Where each one speaks: its port, MAC and address; machines of the other host are behind the uplink."""


@dataclass
class Host:
    """This host in its namespace: the record, the folder of the agent, and what follows the policy."""

    folder: Path
    database: str
    records: Records
    policy: Path
    firewall: Firewall
    kernel: Nftables

    def run(self, *arguments: str, code: int = 0, program: bool = False) -> str:
        """Run a command of the firewall as root of this host; return what it prints.

        `program`: in a process of its own, as an administrator does; else in this one, with all imported.
        """
        of_record = () if "--verify" in arguments else ("--record", self.database)
        command = ["firewall", *arguments, *of_record]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"UNDERCROFT_STATE": str(self.folder), **PLAIN}.items():
                patch.setenv(name, value)
            if program:
                done = subprocess.run([str(PROGRAM), *command], capture_output=True, text=True, check=False)
                found, told = done.returncode, done.stdout + done.stderr
            else:
                with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as problems:
                    found = run_command(command)
                told = out.getvalue() + problems.getvalue()
        assert found == code, f"{found}: {told}"
        return told

    def follow(self) -> None:
        """Do what the agent does when the record has another policy, and tell of it."""
        followed = self.firewall.labels.follow()
        number = followed.applied.number if followed.applied else 0
        now = datetime.now(UTC)
        with self.records.transaction() as record:
            record.put_filter_state(FilterState(HERE, number, "", self.kernel.generation(), 5, now, "", now))
            record.put_filter_state(FilterState("host2", number, "", 1, 2, now, "", now))


def run(command: str) -> None:
    subprocess.run(command.split(), check=True)


def make_bridge() -> None:
    """br0 with the taps and the uplink; the other end of a port is called x-PORT."""
    run("sysctl -q -w net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1")
    run("ip link add br0 type bridge mcast_snooping 0 forward_delay 0")
    run("ip link set br0 up")
    for name in (*TAPS, "eth0"):
        run(f"ip link add {name} type veth peer name x-{name}")
        run(f"ip link set {name} master br0")
        run(f"ip link set x-{name} up")
        run(f"ip link set {name} up")
    # br_netfilter, where it is loaded, drops packets with a wrong checksum, as frames of these tests have.
    for what in ("ip", "ip6", "arp"):
        run(f"sysctl -q -e -w net.bridge.bridge-nf-call-{what}tables=0")
    for tap in TAPS:
        shield_tap(tap)
    for tap, mac, _ in PLACES.values():
        if tap in TAPS:
            shield(Port("", "", tap, bytes.fromhex(mac.replace(":", ""))))


def on_host(folder: Path, test: Callable[[Host], None]) -> None:
    """Run a test on a host of its own, on which nothing is filtered yet."""

    def inside() -> None:
        make_bridge()
        database, policy = str(folder / "fleet.db"), folder / "policy.yaml"
        policy.write_text(fleet.POLICY)
        own_key(folder / "audit.key")
        records = open_records(database)
        fleet.fill(records, HERE)
        try:
            with Nftables() as kernel:
                firewall = Firewall.of(kernel, records, HERE, folder, tuple)
                firewall.labels.recall()
                test(Host(folder, database, records, policy, firewall, kernel))
        finally:
            records.close()

    call_in_own_network(inside)


@contextmanager
def plugged(port: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as end:
        end.bind((f"x-{port}", 0))
        end.settimeout(ARRIVES_S)
        yield end


def arrives(source: str, target: str, service: str) -> bool:
    """Send the first packet of a flow, and tell whether it comes out where the target is."""
    (out, out_mac, out_ip), (into, into_mac, into_ip) = PLACES[source], PLACES[target]
    macs = (bytes.fromhex(mac.replace(":", "")) for mac in (out_mac, into_mac))
    frame = opening(Ends(*macs, ip_address(out_ip), ip_address(into_ip)), service_of(service))
    run("ip link set br0 type bridge fdb_flush")
    with plugged(out) as sender, plugged(into) as receiver:
        sender.send(frame)
        with suppress(TimeoutError):
            while True:
                if receiver.recv(2048)[: len(frame)] == frame:
                    return True
    return False


def test_what_a_trace_says_is_what_the_kernel_does_with_the_packet(tmp_path: Path) -> None:
    def test(host: Host) -> None:
        assert arrives("lost01", "db01", "tcp/5432"), "a control: without a policy everything passes"
        host.run("apply", "--policy", str(host.policy), "--wait", "0")
        host.follow()
        found = {}
        for question in QUESTIONS:
            with redirect_stdout(io.StringIO()) as shown:  # in this process, whose imports are paid for
                code = run_command(["firewall", "trace", *question, "--record", host.database, "-f", "json"])
            trace = json.loads(shown.getvalue())
            assert code == (0 if trace["allowed"] else 1)
            assert trace["ways"][0]["table"] == (
                "compiled" if question[0] in {"db02", "sick01"} else "kernel"
            )
            found[question] = trace["allowed"], arrives(*question)
        assert {says for says, _ in found.values()} == {True, False}
        assert all(says == does for says, does in found.values()), found

    on_host(tmp_path, test)


def test_a_policy_is_planned_applied_proven_and_withdrawn(tmp_path: Path) -> None:
    def test(host: Host) -> None:
        policy = str(host.policy)
        assert "nothing is filtered now" in host.run("plan", "--policy", policy, program=True)
        assert "never heard" in host.run("apply", "--policy", policy, "--wait", "0.1", code=4)
        host.follow()
        told = host.run("apply", "--policy", policy, "--reason", "again", "--wait", "0.1", code=4)
        assert told.count("not yet") == 2
        host.follow()
        assert host.run("status").count("proven") == 2
        come_from_elsewhere(host, "lost01")
        certificate = host.folder / "certificate.json"
        told = host.run("prove", "--out", str(certificate), "-v", program=True)
        assert told.startswith("certified")
        assert "NOT COVERED" in told
        assert host.run("prove", "--verify", str(certificate)).startswith("certified")
        host.run("apply", "--withdraw", "--wait", "0")
        host.follow()
        assert not host.kernel.tables()
        assert arrives("lost01", "db01", "tcp/5432")
        assert "withdrawn (3)" in host.run("status")
        host.run("prove", code=3)

    on_host(tmp_path, test)


def test_a_table_that_somebody_changed_is_found_by_each_command_with_the_packet_that_gets_through(
    tmp_path: Path,
) -> None:
    """As the README shows it, with docs/FIREWALL.md's first policy; the packet is the solver's choice."""
    change, asked, *shown = block_of("README.md", "# nft add element").splitlines()
    assert asked == "$ undercroft firewall prove"

    def test(host: Host) -> None:
        host.policy.write_text(block_of("docs/FIREWALL.md", "version: 1"))
        host.run("apply", "--policy", str(host.policy), "--wait", "0")
        host.follow()
        assert "has exactly these addresses" in host.run("show", "web01")
        assert not arrives("web01", "db01", "tcp/22")
        # One element lets web01's class open SSH of db01's.
        run(change.removeprefix("# "))
        assert arrives("web01", "db01", "tcp/22")
        told = host.run("trace", "web01", "db01", "tcp/22", code=1)
        assert "no rule allows it, but the table lets its first packet pass" in told
        told = host.run("prove", "--out", str(host.folder / "no.json"), code=1, program=True)
        head = shown.index("")
        assert told.splitlines()[:head] == shown[:head]
        for text in (told, "\n".join(shown)):
            for line in (
                r"A PACKET  vnet\d → \w+: the kernel passes it, the policy drops it",
                r"  from 52:54:00:00:00:0\d to [0-9a-f:]+, IPv[46], \d+ bytes",
                r"  tcp port \d+ to 22",
            ):
                assert re.search(f"^{line}$", text, re.MULTILINE), text
        assert not (host.folder / "no.json").exists()
        run("nft delete element bridge undercroft taps { vnet1 }")
        told = host.run("show", "web01", code=1)
        assert "vnet1: taps lacks" in told
        run("nft delete table bridge undercroft")
        assert "the kernel has no table" in host.run("show", "web01", code=1)
        assert "the kernel has no table" in host.run("trace", "web01", "db01", "tcp/22", code=1)
        assert "nothing is filtered here" in host.run("prove", code=1)

    on_host(tmp_path, test)


def come_from_elsewhere(host: Host, name: str) -> None:
    """Let a machine be on its way to this host from one that is not on record, as the agent alone is told."""
    number, domain = next((n, one) for n, one in enumerate(fleet.HOST1, 1) if one.name == name)
    before = values.execution(number, domain.uuid, name=name, host=HERE, origin=Origin.START)
    with host.records.transaction() as record:
        record.put_execution(replace(before, ended_at=values.later(50), ending="stopped"))
    host.firewall.labels.arrive(domain.uuid)
    paused = [replace(one, power=Power.PAUSED) if one is domain else one for one in fleet.HOST1]
    with host.records.transaction() as record:
        record.put_survey(values.survey(*paused, host=HERE, at=values.later(60)))
        record.put_execution(values.execution(60, domain.uuid, name=name, host=HERE, origin=Origin.MIGRATE))
    host.firewall.labels.follow()
    assert next(port for port in host.firewall.enforcer.fleet.ports if port.name == name).arriving


def block_of(document: str, beginning: str) -> str:
    """Return the first block of a document that begins so."""
    text = (Path(__file__).parents[2] / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if block.startswith(beginning)).rstrip("\n")
