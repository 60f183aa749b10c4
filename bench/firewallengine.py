"""What the firewall's engine takes: to load, to change one machine, to prove the whole and one change.

All through `Enforcer`, as the agent does, in a network namespace of its own. Beside it the nft command with
the same sets, and with one element. Times are of the clock; processor time of this process stands beside,
which tells of a machine that does other things.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

import recordvalues

import firewallfleet as machines
from firewallpeers import sets_of_machines
from undercroft.adapters.nftables import Nftables
from undercroft.assurance.firewall.certificate import Certificate
from undercroft.firewall.compiler import TABLE_NAME
from undercroft.model.domain import Domain, Interface, Power, Survey
from undercroft.model.execution import Execution, Origin
from undercroft.model.verdict import Judgement, Verdict
from undercroft.ports.records import Records
from undercroft.store.fleet.records import open_records
from undercroft.usecases.firewall.claims import Named
from undercroft.usecases.firewall.enforcing import Enforcer
from undercroft.usecases.firewall.machines import Gatherer, Look, gathered
from undercroft.usecases.fleet.starts.arrivals import Arrivals
from undercroft.usecases.fleet.subjects import machine_key

CHANGES = 500
PROOFS = 60
COMMANDS = 15
ONE_BY_ONE = 200


@dataclass
class Times:
    """Seconds of the clock, and of this process on processors, of each call."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def of(self, call: Callable[[], object]) -> None:
        """Call, and take the time of it."""
        begun, used = time.perf_counter(), time.process_time()
        call()
        self.cpu.append(time.process_time() - used)
        self.wall.append(time.perf_counter() - begun)


@contextmanager
def engine(folder: Path) -> Iterator[tuple[Nftables, Enforcer]]:
    """Give the kernel and an engine whose memory is in a folder."""
    with Nftables() as kernel:
        enforcer = Enforcer(kernel, folder / "numbers", lambda: datetime.now(UTC))
        enforcer.recall()
        # It listens from now on, as the agent does: the kernel has more to tell then.
        kernel.untouched(TABLE_NAME, 0)
        yield kernel, enforcer


def whole(count: int, rounds: int) -> dict[str, Times]:
    """Return times of loading a fleet and of proving all of it, by name."""
    names = ("load", "nft", "same", "cold", "warm", "new policy")
    took = {name: Times() for name in names}
    policy, fleet = machines.policy(), machines.fleet(count)
    text = sets_of_machines(count).encode()
    with tempfile.TemporaryDirectory() as name, engine(Path(name)) as (_, enforcer):
        for number in range(rounds):
            took["load"].of(lambda: enforcer.enforce(policy, fleet))
            took["same"].of(lambda: enforcer.enforce(policy, fleet))
            proven(enforcer)
            enforcer.enforce(policy, fleet)  # so that nothing counts as proven, and the policy is known
            took["warm"].of(lambda: proven(enforcer))
            wall, cpu = _in_a_new_process(count, Path(name))
            took["cold"].wall.append(wall)
            took["cold"].cpu.append(cpu)
            enforcer.enforce(machines.policy(f", tcp/{7000 + number}"), fleet)
            took["new policy"].of(lambda: proven(enforcer))
            enforcer.withdraw()
            took["nft"].of(lambda: _nft("-f", "-", given=text))
            _nft("delete", "table", "bridge", "sets")
    return took


def one_machine(count: int) -> dict[str, Times]:
    """Return times of changing one machine among `count`, and of proving that change, by name."""
    took = {name: Times() for name in ("admit", "dismiss", "label", "prove", "nft")}
    policy, fleet = machines.policy(), machines.fleet(count)
    with tempfile.TemporaryDirectory() as name, engine(Path(name)) as (_, enforcer):
        enforcer.enforce(policy, fleet)
        proven(enforcer)
        for number in range(CHANGES):
            port = machines.port(count + 1 + number % 50)
            other = machines.port(count + 1 + number % 50, machines.QUARANTINE)
            took["admit"].of(lambda port=port: enforcer.admit([port]))
            took["label"].of(lambda port=other: enforcer.admit([port]))
            took["dismiss"].of(lambda port=port: enforcer.dismiss(port.machine))
        proven(enforcer)
        for number in range(PROOFS):
            port = machines.port(count + 1, (machines.WEB, machines.DB)[number % 2])
            enforcer.admit([port])
            took["prove"].of(lambda: proven(enforcer))
        for number in range(COMMANDS):
            line = f'add element bridge {TABLE_NAME} taps {{ "x{number}" }}'
            took["nft"].of(lambda line=line: _nft(line))
    return took


def gathering(count: int, rounds: int) -> dict[str, Times]:
    """Return times of asking the record for all machines and for one, and of a change by none."""
    took = {name: Times() for name in ("gather", "ports", "enforce")}
    policy, now = machines.policy(), datetime.now(UTC)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        records = open_records(f"{name}/record.db")
        everything = [_on_record(number, now) for number in range(1, count + 1)]
        with records.transaction() as record:
            domains = tuple(domain for domain, _, _ in everything)
            record.put_survey(Survey(machines.HOST, "qemu:///system", now, domains))
            record.put_judgements([judgement for _, _, judgement in everything])
            for _, execution, _ in everything:
                record.put_execution(execution)
        found = []
        for _ in range(rounds):
            with records.reading() as record:
                took["gather"].of(
                    lambda record=record: found.append(
                        gathered(record, policy, machines.HOST, machines.HOST_ADDRESSES)
                    )
                )
            assert len(found[-1].fleet.ports) == count, found[-1].problems[:3]
        named = Named(policy)
        for domain in domains[:: max(1, count // ONE_BY_ONE)]:
            took["ports"].of(lambda domain=domain: _ports_of(records, named, domain.uuid))
        with engine(Path(name)) as (_, enforcer):
            for item in found:
                if enforcer.policy:
                    took["enforce"].of(lambda item=item: enforcer.enforce(policy, item.fleet))
                else:
                    enforcer.enforce(policy, item.fleet)
    return took


def _ports_of(records: Records, named: Named, machine: str) -> None:
    with records.reading() as record:
        look = Look.about(record, named, machine, machines.HOST)
        arriving = Arrivals(machines.HOST).now(record, {one.uuid for one in look.machines})
    found = Gatherer(look, named).at(machines.HOST, machines.HOST_ADDRESSES, arriving)
    assert found.ports_of(machine)


def _on_record(number: int, now: datetime) -> tuple[Domain, Execution, Judgement]:
    port = machines.port(number)
    addresses = (str(port.ipv4[0]), str(port.ipv6[0]))
    nic = Interface(port.mac.hex(":"), "bridge", "br0", "br0", port.tap, addresses)
    domain = Domain(port.machine, port.name, Power.RUNNING, number, interfaces=(nic,))
    execution = Execution(f"{number:032x}", port.machine, port.name, port.host, Origin.START, "", "", now)
    verdict = Verdict.QUARANTINED if number % 100 == 99 else Verdict.STEADY
    return domain, execution, recordvalues.judgement(machine_key(port.machine), verdict=verdict)


def proven(enforcer: Enforcer) -> None:
    """Prove, and be sure of the answer."""
    answer = enforcer.prove()
    assert isinstance(answer, Certificate), answer


def cold(count: int, folder: Path) -> None:
    """Print what the first proof of this process takes, wall and processor time; the table is there."""
    took = Times()
    with engine(folder) as (_, enforcer):
        enforcer.enforce(machines.policy(), machines.fleet(count))
        took.of(lambda: proven(enforcer))
    print(took.wall[0], took.cpu[0])


def _in_a_new_process(count: int, folder: Path) -> tuple[float, float]:
    command = [sys.executable, __file__, str(count), str(folder)]
    wall, cpu = subprocess.check_output(command, text=True).split()
    return float(wall), float(cpu)


def _nft(*words: str, given: bytes = b"") -> bytes:
    return subprocess.run(["nft", *words], input=given, capture_output=True, check=True).stdout


if __name__ == "__main__":
    cold(int(sys.argv[1]), Path(sys.argv[2]))
