"""The same as the command line, as functions with typed results.

    import undercroft

    report = undercroft.scan("web01.qcow2")
    for state in report.states:
        print(state.name, state.complete, len(state.assessment.findings))

    with undercroft.open("web01.qcow2") as machine:         # one sandbox for several questions
        inventory = machine.inventory(machine.state("before-upgrade"))
        shadow = b"".join(machine.content(machine.state("current"), "/etc/shadow"))

    undercroft.assess(inventory)                            # again, without reading a disk

    for row in undercroft.fleet().rows:                     # what `undercroft up` has on record
        print(row.name, row.verdict, row.why)
    undercroft.machine("web01").executions
    undercroft.firewall_trace("web01", "db01", "tcp/5432").allowed

Every function raises the errors of `undercroft.errors`; what could not be read is in the result's
problems, never missing from it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime

from undercroft.model.diff import StateDiff
from undercroft.model.disk import DiskFormat
from undercroft.model.finding import Assessment
from undercroft.model.inventory import Inventory
from undercroft.model.report import CURRENT, ScanReport
from undercroft.usecases.assess import assessor
from undercroft.usecases.diff import diff_states
from undercroft.usecases.firewall.answers import FlowMap, Trace
from undercroft.usecases.firewall.values import Status
from undercroft.usecases.fleet.views.existing import existing_records
from undercroft.usecases.fleet.views.fleet import fleet_view
from undercroft.usecases.fleet.views.machine import machine_view
from undercroft.usecases.fleet.views.values import FleetView, MachineView
from undercroft.usecases.keys import ring_of
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.report import scan_machine
from undercroft.usecases.session import Request, open_machine, start_reader


@contextmanager
def open(  # noqa: A001 - undercroft.open, as gzip.open
    *images: str,
    domain: str = "",
    connect: str = "",
    image_format: str = "",
    backing_files: Sequence[str] = (),
    data_files: Sequence[str] = (),
    keys: Mapping[str, str | bytes] | None = None,
    sandbox: bool = True,
) -> Iterator[OpenMachine]:
    """Open a machine: its disks as image files or block devices, or a libvirt domain.

    Args:
        images: in the order in which the guest sees its disks.
        domain: name, ID or UUID of a libvirt domain, instead of images.
        connect: libvirt URI, "" for libvirt's default.
        image_format: "raw" or "qcow2"; "" to tell it from the bytes.
        backing_files: the only files that may be opened as backing files.
        data_files: the only files that may be opened as external data files.
        keys: of encrypted volumes: a volume's name ("vda2"), UUID or label, or "*" for any, with the path of
            the file that holds its key, or the key itself as bytes.
        sandbox: False reads untrusted disks in this process.

    Raises:
        NotFoundError: an image, or the domain, does not exist.
        DeniedError: no permission, or no sandbox can be had here.
        InputError: what was named is no image.
        OperationError: the host, libvirt or the sandbox failed.
    """
    asked = Request(
        images,
        domain,
        connect,
        DiskFormat(image_format) if image_format else None,
        tuple(backing_files),
        tuple(data_files),
    )
    with (
        ring_of(keys or {}) as ring,
        closing(start_reader(sandbox=sandbox)) as reader,
        open_machine(replace(asked, keys=ring), reader) as machine,
    ):
        yield machine


def scan(
    *images: str,
    states: Sequence[str] = (),
    as_of: date | None = None,
    database: str = "",
    domain: str = "",
    connect: str = "",
    image_format: str = "",
    backing_files: Sequence[str] = (),
    data_files: Sequence[str] = (),
    keys: Mapping[str, str | bytes] | None = None,
    sandbox: bool = True,
) -> ScanReport:
    """Return what is installed and unpatched in a machine.

    Args:
        images: see `open`.
        states: "current", snapshot names or IDs; all of them by default.
        as_of: answer as on that day, from dated records only.
        database: path of the advisory database, "" for this user's.
        domain: see `open`.
        connect: see `open`.
        image_format: see `open`.
        backing_files: see `open`.
        data_files: see `open`.
        keys: see `open`.
        sandbox: see `open`.

    Raises what `open` raises, and StateError or OperationError where the database can't be used.
    """
    now = datetime.now(UTC)
    with (
        open(
            *images,
            domain=domain,
            connect=connect,
            image_format=image_format,
            backing_files=backing_files,
            data_files=data_files,
            keys=keys,
            sandbox=sandbox,
        ) as machine,
        assessor(now=now, as_of=as_of, database=database) as assess_one,
    ):
        return scan_machine(
            machine,
            assess_one,
            scanned_at=now,
            sandboxed=sandbox,
            as_of=as_of,
            states=[machine.state(name) for name in states],
        )


def packages(
    image: str,
    state: str = CURRENT,
    *,
    keys: Mapping[str, str | bytes] | None = None,
    sandbox: bool = True,
) -> Inventory:
    """Return the inventory of one state of a machine with one disk. Raises what `open` raises."""
    with open(image, keys=keys, sandbox=sandbox) as machine:
        return machine.inventory(machine.state(state))


def diff(
    image: str,
    before: str,
    after: str = CURRENT,
    *,
    database: str = "",
    keys: Mapping[str, str | bytes] | None = None,
    sandbox: bool = True,
) -> StateDiff:
    """Return what changed from one state of a machine to another. Raises what `scan` raises.

    `findings_lost` is what going back to `before` would bring back.
    """
    report = scan(image, states=[before, after], database=database, keys=keys, sandbox=sandbox)
    return diff_states(*report.states)


def assess(inventory: Inventory, *, as_of: date | None = None, database: str = "") -> Assessment:
    """Return what the advisories of this host say of an inventory; no disk is read.

    Raises:
        StateError, OperationError: the advisory database can't be used.
    """
    with assessor(now=datetime.now(UTC), as_of=as_of, database=database) as assess_one:
        return assess_one(inventory)


def fleet(database: str = "") -> FleetView:
    """Return every machine in every state with its verdict, as `undercroft up` keeps it on record.

    Args:
        database: path (SQLite) or URL of the record, "" for this host's.

    Raises:
        NotFoundError: there is no record yet.
        InputError, DeniedError, StateError, OperationError: it cannot be read.
    """
    with existing_records(database) as records, records.reading() as record:
        return fleet_view(record, datetime.now(UTC))


def machine(name: str, database: str = "") -> MachineView:
    """Return what is on record of one machine: its states, findings, executions and decisions.

    Args:
        name: its name or UUID.
        database: see `fleet`.

    Raises what `fleet` raises, NotFoundError for a machine that is not on record, and InputError where
    several have that name.
    """
    with existing_records(database) as records, records.reading() as record:
        return machine_view(record, name, datetime.now(UTC))


def firewall_status(database: str = "") -> Status:
    """Return which firewall policy is in force, and what each host's agent says that its kernel holds.

    Args:
        database: see `fleet`.

    Raises what `fleet` raises.
    """
    from undercroft.usecases.firewall.applying import status  # noqa: PLC0415 - only when asked

    with existing_records(database) as records, records.reading() as record:
        return status(record, datetime.now(UTC))


def firewall_map(database: str = "") -> FlowMap:
    """Return who may talk to whom by the firewall policy in force.

    Args:
        database: see `fleet`.

    Raises what `fleet` raises, and NotFoundError where no policy is in force.
    """
    from undercroft.usecases.firewall import inforce, mapping, members  # noqa: PLC0415 - only when asked

    with existing_records(database) as records, records.reading() as record:
        number, policy = inforce.policy_in_force(record)
        return mapping.flow_map(policy, number, members.counts(members.members(record, policy, {}, ())))


def firewall_trace(source: str, target: str, service: str, database: str = "") -> Trace:
    """Return whether one side may open a service of another, by which rule, and the way through the tables.

    The tables are those that the policy in force makes of the record; the kernel is not asked.

    Args:
        source: a machine's name or UUID, an address, "world" or "host".
        target: the same.
        service: "tcp/5432", "icmp".
        database: see `fleet`.

    Raises what `fleet` raises, NotFoundError for nobody and where no policy is in force, and InputError for
    what is no question.
    """
    from undercroft.usecases.firewall import inforce, parties  # noqa: PLC0415 - only when asked
    from undercroft.usecases.firewall.tracing import tracing  # noqa: PLC0415

    with existing_records(database) as records, records.reading() as record:
        number, policy = inforce.policy_in_force(record)
        question, everyone = parties.question_of(record, policy, {}, (source, target), service)
    return tracing(question, everyone, policy, number=number)
