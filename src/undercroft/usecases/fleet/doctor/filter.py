"""What `doctor` looks at of the packet filter: the kernel, the applied policy, what is around it, uplinks."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from undercroft.assurance.firewall.hostfacts import Surroundings
from undercroft.assurance.firewall.hostfindings import Danger, folded
from undercroft.assurance.firewall.surroundings import judge
from undercroft.errors import NotFoundError, OperationError
from undercroft.firewall.compiler import TABLE_NAME
from undercroft.firewall.policy import FirewallPolicy, OtherPorts
from undercroft.firewall.senders import PRIORITY
from undercroft.firewall.stored import from_text
from undercroft.model.filter import AppliedPolicy, FilterState
from undercroft.ports.packetfilter import FilterFeatures, TableName
from undercroft.usecases.firewall.needs import check_features
from undercroft.usecases.fleet.doctor.health import Check, Health

_LOGS = "journalctl -u undercroft"
_MAX_NAMES = 8
_PRIORITIES = tuple((hook, PRIORITY) for hook in ("prerouting", "input", "forward", "output"))


@dataclass(frozen=True, slots=True)
class FilterHost:
    """Ways to look at the packet filter of this host.

    Attributes:
        host: its name, as the record has it.
        features: what the kernel can do.
        tables: of all families.
        taps: devices whose names begin so, and taps on any bridge.
        gather: the facts around the table, for these taps.
        bridge_ports: each device that is a port of a bridge, and the bridge.
        applied: the policy that is in force by the record, and what this host's agent says of it.
    """

    host: str
    features: Callable[[], FilterFeatures]
    tables: Callable[[], Sequence[TableName]]
    taps: Callable[[Collection[str]], Sequence[str]]
    gather: Callable[[str, Collection[str], Collection[tuple[str, int]]], Surroundings]
    bridge_ports: Callable[[], Sequence[tuple[str, str]]]
    applied: Callable[[], tuple[AppliedPolicy | None, FilterState | None]]


def packet_filter(host: FilterHost) -> Iterable[Check]:
    """Look at what the kernel can do, and what is missing costs."""
    features = host.features()
    policy = _in_force(host)
    try:
        check_features(features, policy or FirewallPolicy())
    except OperationError as error:
        health = Health.WARN if policy is None else Health.FAIL
        yield Check("packet filter", health, "the kernel cannot hold a firewall policy", str(error))
        return
    if features.conntrack:
        told = "the kernel tracks connections on bridges"
    else:
        told = "no connection tracking on bridges: answers are told by sets of addresses and ports instead"
    silent = "" if features.logs and features.rate_limits else "; what is denied is told nowhere"
    health = Health.WARN if silent else Health.OK
    cure = "modprobe nft_limit; modprobe nft_log" if silent else ""
    yield Check("packet filter", health, f"the kernel can hold a firewall policy; {told}{silent}", cure)


def firewall(host: FilterHost) -> Iterable[Check]:
    """Look at whether a policy is in force by the record, and in this host's kernel."""
    applied, state = _record(host)
    has_table = TableName("bridge", TABLE_NAME) in host.tables()
    if applied is None or not applied.body:
        if has_table:
            found = f"no policy is in force, and the kernel has a table {TABLE_NAME} of its own"
            cure = f"{_LOGS}; the agent takes it away, or: nft delete table bridge {TABLE_NAME}"
            yield Check("firewall", Health.WARN, found, cure)
        else:
            yield Check("firewall", Health.OK, "no policy is in force: nothing is filtered")
        return
    name = f"policy {applied.number}"
    if not has_table:
        found = f"{name} is in force, and the kernel has no table {TABLE_NAME}: nothing is filtered"
        yield Check("firewall", Health.FAIL, found, f"systemctl restart undercroft; {_LOGS}")
    elif state is None or state.number != applied.number:
        has = f"has policy {state.number}" if state and state.number else "has said nothing of it"
        found = f"{name} is in force, and this host's agent {has}"
        yield Check("firewall", Health.FAIL, found, f"systemctl status undercroft; {_LOGS}")
    elif state.problem:
        yield Check("firewall", Health.FAIL, f"{name}: {state.problem}", "undercroft firewall prove")
    elif state.proven_at is None:
        found = f"{name} is in the kernel, and not proven yet"
        yield Check("firewall", Health.WARN, found, "undercroft firewall prove")
    else:
        found = f"{name} is in the kernel for {state.machines} machines"
        yield Check("firewall", Health.OK, f"{found}, proven on {state.proven_at:%Y-%m-%d %H:%M}")


def around(host: FilterHost) -> Iterable[Check]:
    """Look at what passes the table by, where a policy is in force."""
    policy = _in_force(host)
    if policy is None:
        return
    facts = host.gather(TABLE_NAME, host.taps(policy.ports.machines), _PRIORITIES)
    findings = folded(judge(facts))
    for finding in findings:
        told = f"{finding.danger}: {finding.thing}: {finding.found}"
        yield Check("around the firewall", _health(finding.danger), told, finding.cure)
    if not findings:
        yield Check("around the firewall", Health.OK, "nothing passes the table by")


def uplinks(host: FilterHost) -> Iterable[Check]:
    """Look for bridges with machines that lead nowhere, as the policy names none of their other ports."""
    policy = _in_force(host)
    if policy is None:
        return
    taps = ", ".join(sorted({*host.taps(())} & {*policy.ports.uplinks})[:_MAX_NAMES])
    if taps:
        found = f"the policy names taps as uplinks, which the table closes as it does a machine's: {taps}"
        cure = "let the program's tap end on the host, and route; or bridge a device that is no tap"
        yield Check("uplinks", Health.WARN, found, cure)
    if taps or policy.ports.others is OtherPorts.OUTSIDE:
        return
    ports = host.bridge_ports()
    ours = {*host.taps(policy.ports.machines)}  # by kind, as the rules tell them, and by name
    machines = {bridge for device, bridge in ports if device in ours}
    others = [(device, bridge) for device, bridge in ports if device not in ours]
    led = {bridge for device, bridge in others if device in policy.ports.uplinks}
    missing = sorted((device, bridge) for device, bridge in others if bridge in machines - led)
    if not missing:
        yield Check("uplinks", Health.OK, "each bridge with machines and other ports has an uplink")
        return
    names = ", ".join(f"{device} on {bridge}" for device, bridge in missing[:_MAX_NAMES])
    more = f" and {len(missing) - _MAX_NAMES} more" if len(missing) > _MAX_NAMES else ""
    found = f"the policy names no uplink of these bridges, so machines reach nobody outside by {names}{more}"
    yield Check("uplinks", Health.WARN, found, "add those that lead outside to ports.uplinks of the policy")


def _health(danger: Danger) -> Health:
    if danger.voids:
        return Health.FAIL
    return Health.UNKNOWN if danger is Danger.UNKNOWN else Health.WARN


def _record(host: FilterHost) -> tuple[AppliedPolicy | None, FilterState | None]:
    try:
        return host.applied()
    except NotFoundError:
        return None, None  # There is no record yet, which is told elsewhere.


def _in_force(host: FilterHost) -> FirewallPolicy | None:
    applied, _ = _record(host)
    return from_text(applied.body) if applied is not None and applied.body else None


FILTER_LOOKS: tuple[tuple[str, Callable[[FilterHost], Iterable[Check]], str], ...] = (
    ("packet filter", packet_filter, "sudo undercroft doctor"),
    ("firewall", firewall, "sudo undercroft doctor"),
    ("around the firewall", around, "sudo undercroft doctor"),
    ("uplinks", uplinks, "sudo undercroft doctor"),
)
