"""A small fleet on two hosts as the record has it, and a policy for it; for the firewall's commands.

host1: web01 and web02 and db01 on br0; lost01, which no label fits; nowhere01 without an address.
host2: db02 on br0; sick01, quarantined.
"""

from dataclasses import replace

import recordvalues as values

from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.reading import load_firewall
from undercroft.firewall.stored import to_text
from undercroft.model.domain import Domain, Interface, Ownership, Power
from undercroft.model.execution import Origin
from undercroft.model.filter import AppliedPolicy
from undercroft.model.fleet import Hold
from undercroft.model.verdict import Verdict
from undercroft.ports.records import Records
from undercroft.usecases.fleet.subjects import domain_subjects, machine_key

POLICY = """\
version: 1
labels:
  web: {machines: "web*"}
  db: {machines: "db*"}
  nowhere: {machines: "nowhere*"}
  admin: {owner: ops}
  quarantine: {verdict: quarantined}
addresses:
  web02: 10.0.0.2
  patch-mirror: 192.0.2.10
firewall:
  - {from: web, to: db, allow: [tcp/5432]}
  - {from: world, to: web, allow: [tcp/443, icmp]}
  - {from: web, to: world, allow: [udp/53]}
  - {from: db, to: db, allow: [tcp/5433]}
  - {from: admin, to: "*", allow: [tcp/22]}
  - {from: quarantine, to: patch-mirror, allow: [tcp/443]}
never:
  - {from: quarantine, to: "*", except: patch-mirror}
  - {from: world, to: db}
ports: {uplinks: [eth0]}
"""


TODAY = values.NOW.date()


def mac(number: int) -> str:
    return f"52:54:00:00:00:{number:02x}"


def machine(number: int, name: str, *addresses: str, owner: str = "", **changes: object) -> Domain:
    interface = Interface(mac(number), "bridge", "br0", "br0", f"vnet{number}")
    ownership = Ownership(owner=owner, addresses=addresses)
    plain = values.domain(
        number, name, power=Power.RUNNING, libvirt_id=number, interfaces=(interface,), ownership=ownership
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


HOST1 = (
    machine(1, "web01", "10.0.0.1", "2001:db8::1"),
    machine(2, "web02"),
    machine(3, "db01", "10.0.0.3"),
    machine(4, "lost01", "10.0.0.4"),
    machine(5, "nowhere01"),
)
HOST2 = (machine(6, "db02", "10.0.0.6", owner="ops"), machine(7, "sick01", "10.0.0.7"))


def policy(text: str = POLICY) -> FirewallPolicy:
    return load_firewall([("policy.yaml", text.encode())])


def fill(records: Records, here: str = "host1") -> None:
    """Put the fleet on record; `here` is the name of the host that is host1."""
    with records.transaction() as record:
        for host, domains in ((here, HOST1), ("host2", HOST2)):
            record.put_survey(values.survey(*domains, host=host))
            for domain in domains:
                for subject in domain_subjects(host, domain):
                    record.put_subject(subject)
            for domain in domains:
                number = domain.libvirt_id
                record.put_execution(
                    values.execution(number, domain.uuid, name=domain.name, host=host, origin=Origin.START)
                )
        sick = HOST2[1].uuid
        record.put_judgements([values.judgement(machine_key(sick), verdict=Verdict.QUARANTINED)])
        record.put_hold(Hold(sick, values.eid(7), (), "it drifts", values.NOW, pending=False, by_filter=True))


def apply(records: Records, text: str = POLICY) -> AppliedPolicy:
    """Put a policy into force by the record."""
    found = policy(text)
    with records.transaction() as record:
        return record.put_applied_policy(to_text(found), found.digest, "root", "", values.NOW)
