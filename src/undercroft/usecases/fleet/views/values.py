"""What people and programs see of the fleet: values without any text for people.

`fleetview.fleet_view` and `machineview.machine_view` build them from a record. What is not known is None or
`Verdict.UNKNOWN`, never a zero or an empty list that would read as "nothing found".
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from undercroft.model.domain import Interface, Power
from undercroft.model.execution import Execution
from undercroft.model.finding import EndOfLife, Finding
from undercroft.model.fleet import Hold
from undercroft.model.verdict import Action, Decision, RuleResult, SubjectKind, Verdict
from undercroft.usecases.firewall.values import Holding

QUIET = timedelta(minutes=11)
"""Past this without a survey or a word of the agent the record may be behind: it surveys every 5 minutes."""


class Network(StrEnum):
    """Whether packets pass. PENDING: not until it is seen how the machine began. NONE: none could pass."""

    OPEN = "open"
    PENDING = "pending"
    CLOSED = "closed"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class FleetRow:
    """One machine, snapshot, template or image.

    Attributes:
        subject: its key: "machine:UUID", "template:UUID", "snapshot:UUID:NAME" or "image:HOST:PATH".
        kind: what it is.
        name: what people call it; untrusted where a guest's image names it.
        host: where it lies.
        machine: UUID of its machine, "" for an image.
        state: "current" or the snapshot's name.
        verdict: unknown where it was not judged yet.
        why: the first reason that stands against it, "" when it is steady; of a machine whose network waits
            for its guest's fresh randomness alone, that.
        since: since when the verdict is this one, None before the first.
        action: what a start would meet, None before the first verdict.
        owner, labels, expires_on: its machine's.
        power: None for all but machines and templates that are machines.
        network: whether packets pass.
        scanned_at: when it was last read, None for never.
        complete: False where something that matters was not read.
        brought_back: for a snapshot: how many findings it has that its machine had fixed, or else that the
            current state lacks; None where nobody knows, and for all others.
        alarms: what must not be so: two live executions of one machine, one image that two machines write.
    """

    subject: str
    kind: SubjectKind
    name: str
    host: str
    machine: str
    state: str
    verdict: Verdict
    why: str
    since: datetime | None
    action: Action | None
    owner: str = ""
    labels: tuple[str, ...] = ()
    expires_on: date | None = None
    power: Power | None = None
    network: Network = Network.NONE
    scanned_at: datetime | None = None
    complete: bool = False
    brought_back: int | None = None
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetView:
    """The whole fleet at one time.

    Attributes:
        taken_at: when the record was asked.
        as_of: when the host that was surveyed longest ago was surveyed, None for an empty record.
        agent_heard_at: the agent's last word in the log, None where the log's end has none.
        agent_stopped: that word was that it stops.
        hosts: sorted.
        rows: worst first: machines, templates, images; each with its snapshots behind it.
    """

    taken_at: datetime
    as_of: datetime | None
    agent_heard_at: datetime | None
    agent_stopped: bool
    hosts: tuple[str, ...]
    rows: tuple[FleetRow, ...]

    @property
    def behind(self) -> bool:
        """True where the agent has stopped, or neither it nor a survey was heard of for `QUIET`."""
        if self.agent_stopped:
            return True
        heard = max((moment for moment in (self.as_of, self.agent_heard_at) if moment), default=None)
        return heard is None or self.taken_at - heard > QUIET


@dataclass(frozen=True, slots=True)
class HostRow:
    """One host that has anything on record that is there.

    Attributes:
        host: its name.
        heard_at: when its agent was last heard, by that host's clock; None for never.
        stopped: its last word was that it stops.
        silent: it has stopped, or was not heard for `quiet_s`: longer than one that is alive is ever quiet.
        machines, running: how many the record has there.
        policy: number of the firewall policy that its kernel holds, as it told last; 0 for none.
        filter: what that says of the policy in force, None where nothing is filtered.
    """

    host: str
    heard_at: datetime | None
    stopped: bool
    silent: bool
    quiet_s: int
    machines: int
    running: int
    policy: int
    filter: Holding | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Findings of one state.

    Those by severity and `known_exploited` are None in place of 0 where no source could have told of any.
    `whole` is False where all numbers are lower bounds.
    """

    findings: int
    fixable: int
    known_exploited: int | None
    critical: int | None
    high: int | None
    medium: int | None
    low: int | None
    negligible: int | None
    unknown: int
    whole: bool


@dataclass(frozen=True, slots=True)
class StateView:
    """One state of one machine.

    Attributes:
        row: what the fleet's table says of it.
        taken_at: of a snapshot.
        counts: None where it was not assessed.
        secrets: files with private keys, tokens or passwords; None where they were not looked for.
        problems: why it was not read whole.
    """

    row: FleetRow
    taken_at: datetime | None
    counts: Counts | None
    secrets: int | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CredentialsView:
    """How many ways lead into a machine; `whole` is False where some may have been missed."""

    accounts: int
    logins: int
    authorized_keys: int
    host_keys: int
    certificates: int
    secrets: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Mend:
    """Something that is not as it should be, and the command that helps."""

    problem: str
    command: str


@dataclass(frozen=True, slots=True)
class DiskView:
    """One disk: where its top image lies, what is below it, and why it cannot be read, "" when it can."""

    target: str
    path: str
    format: str
    chain: tuple[str, ...]
    problem: str


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """One checkpoint: changed blocks are known since `taken_at`, None where nobody knows. `parent`: or ""."""

    name: str
    parent: str
    taken_at: datetime | None


@dataclass(frozen=True, slots=True)
class InterfaceView:
    """One interface, and whether its port is held."""

    interface: Interface
    network: Network


class Protection(StrEnum):
    """How a machine stands, worst first.

    REWOUND: it proved that it was put back, and has not confirmed a seed since. UNPROTECTED: its kernel did
    not credit the seed. NO_HELPER: it has a channel, and nobody answers at it. NO_CHANNEL: it runs without
    one. UNREACHABLE: the agent cannot connect to its channel. WAITING: its helper has answered, and has not
    confirmed yet. UNKNOWN: nothing is on record of what runs. SILENT: it has confirmed in this execution, and
    answers no more. PROTECTED: it has confirmed, and answers. OFF: it does not run.
    """

    REWOUND = "rewound"
    UNPROTECTED = "unprotected"
    NO_HELPER = "no helper"
    NO_CHANNEL = "no channel"
    UNREACHABLE = "unreachable"
    WAITING = "waiting"
    UNKNOWN = "unknown"
    SILENT = "silent"
    PROTECTED = "protected"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """One machine.

    Attributes:
        machine, name, host: its identity.
        protection: how it stands.
        channel: its definition, or what runs, has a channel.
        generation: of the seed that it confirmed last in this execution, 0 for none.
        confirmed_at: when, None for never.
        milliseconds: how long that took from the moment in which the service had its channel.
        helper, kernel: what the guest says of itself; untrusted.
        genid: the definition has `<genid/>`.
        driver: the kernel on its disks that would start has a driver for it; None where nobody knows.
        since: when that was last heard, None for never.
        problem: why it is so, "" where there is no more to say.
        elsewhere: the host that keeps its vault, where that is another one; "" where it is this one, or none.
    """

    machine: str
    name: str
    host: str
    protection: Protection
    channel: bool
    generation: int = 0
    confirmed_at: datetime | None = None
    milliseconds: int = 0
    helper: str = ""
    kernel: str = ""
    genid: bool = False
    driver: bool | None = None
    since: datetime | None = None
    problem: str = ""
    elsewhere: str = ""


@dataclass(frozen=True, slots=True)
class MachineView:
    """One machine with all that is on record of it.

    Attributes:
        taken_at: when the record was asked.
        uuid, name, host: its identity.
        gone_at: when it was no longer defined nor running, None while it is there.
        system: name of its operating system, "" where nobody knows. Untrusted.
        support: of that system, None where it was not assessed.
        persistent: False for a transient machine, which is gone when it stops.
        autostart: started with the host.
        genid: libvirt tells its guest of a restore.
        tainted: libvirt's marks: somebody went past it.
        first_seen, last_seen: of the record.
        disks, interfaces: in the order of the definition.
        hold: why its network is closed, None while it is open.
        states: the current one first, then snapshots as libvirt lists them.
        rules: every rule that was asked about the current state.
        findings: of the current state, worst first; () where it was not assessed (`states[0].counts`).
        executions, decisions: latest first.
        credentials: of the current state, None where they were not read.
        floor: packages in its patch floor, as advisories name them.
        problems: why something about it is not known.
        mends: what to do.
        addresses: what its metadata says are its own, as in `Ownership.addresses`.
        checkpoints: parents before children.
        channel: how it stands beneath its guest, None where it is gone.
        exposed: its snapshots with RAM whose guest did not stand still: each resume of one draws the same.
    """

    taken_at: datetime
    uuid: str
    name: str
    host: str
    gone_at: datetime | None
    system: str
    support: EndOfLife | None
    persistent: bool
    autostart: bool
    genid: bool
    tainted: tuple[str, ...]
    first_seen: datetime
    last_seen: datetime
    disks: tuple[DiskView, ...]
    interfaces: tuple[InterfaceView, ...]
    hold: Hold | None
    states: tuple[StateView, ...]
    rules: tuple[RuleResult, ...]
    findings: tuple[Finding, ...] = ()
    executions: tuple[Execution, ...] = ()
    decisions: tuple[Decision, ...] = ()
    credentials: CredentialsView | None = None
    floor: int = 0
    problems: tuple[str, ...] = ()
    mends: tuple[Mend, ...] = ()
    addresses: tuple[str, ...] = ()
    checkpoints: tuple[CheckpointView, ...] = ()
    channel: ChannelRow | None = None
    exposed: tuple[str, ...] = ()

    @property
    def current(self) -> FleetRow:
        """What the fleet's table says of the machine itself."""
        return self.states[0].row
