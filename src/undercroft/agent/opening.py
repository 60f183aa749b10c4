"""What the agent works with, opened once: folders, policy, record, sandbox, libvirt, kernel."""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from undercroft.adapters import hookfiles, hostnetwork, netlink, surroundings
from undercroft.adapters.libvirt import LibvirtHypervisor
from undercroft.adapters.libvirt.fleet import LibvirtFleet
from undercroft.adapters.libvirt.hypervisor import SYSTEM_STATE_DIRECTORY
from undercroft.adapters.nftables import Nftables
from undercroft.adapters.surroundings.shielding import shield
from undercroft.agent.firewall import Firewall
from undercroft.agent.host import Host, now
from undercroft.agent.single import only_agent
from undercroft.errors import OperationError
from undercroft.model.domain import Domain
from undercroft.ports.hypervisor import MachineDisks, PointInTime
from undercroft.ports.records import Records
from undercroft.store.fleet.records import open_records
from undercroft.usecases.fleet.places import Places
from undercroft.usecases.fleet.reading.layers import LayerReader
from undercroft.usecases.fleet.reading.scanning import Scanner
from undercroft.usecases.fleet.verdicts.advising import Advisor
from undercroft.usecases.fleet.verdicts.policyfile import PolicyKeeper
from undercroft.usecases.session import start_reader


@dataclass(frozen=True, slots=True)
class Options:
    """How the agent runs.

    Attributes:
        places: where its files lie.
        connect: libvirt URI, "" for libvirt's default.
        advisories: path of the advisory database.
        hooks: libvirt's folder of hooks, None to install none: then nothing is enforced.
        metrics: "HOST:PORT", "" for none.
        guest_service: start the guest service as a child where systemd gives none.
        state_directory: the folder that libvirt's daemon keeps its domains' sockets in.
    """

    places: Places
    connect: str = ""
    advisories: str = ""
    hooks: Path | None = hookfiles.HOOKS_FOLDER
    metrics: str = ""
    guest_service: bool = False
    state_directory: Path = SYSTEM_STATE_DIRECTORY


@contextmanager
def opened(options: Options, report: Callable[[str], None]) -> Iterator[tuple[Host, Firewall]]:
    """Give a host and its firewall with everything opened; closed in the reverse order.

    Args:
        options: how the agent runs.
        report: takes lines for the service's log.

    Raises:
        InputError: the policy is wrong, one line for each mistake, and no good one was ever kept.
        StateError: another agent runs here; the record is of a newer version.
        DeniedError, OperationError: folders, record or sandbox can't be had.
    """
    places = options.places
    with ExitStack() as stack:
        hookfiles.prepare_folders(places.state)
        stack.enter_context(only_agent(places.state))
        policy = PolicyKeeper(places.policy, lambda: now().date(), places.kept_policy)
        try:
            places.note_for_commands()
        except OSError as error:
            raise OperationError(f"{places.state}: {error.strerror}") from error
        records: Records = stack.enter_context(closing(open_records(places.database_url)))
        reader = stack.enter_context(closing(start_reader()))
        fleet = stack.enter_context(closing(LibvirtFleet(options.connect)))
        if options.metrics:
            from undercroft.agent import metrics  # noqa: PLC0415 - only where asked for

            stack.callback(metrics.serve(records, options.metrics))
        name = socket.gethostname()
        packet_filter = stack.enter_context(closing(Nftables()))
        firewall = Firewall.of(
            packet_filter, records, name, places.state, hostnetwork.host_addresses, surroundings.gather
        )
        firewall.labels.shield = shield
        host = Host(
            places,
            name,
            records=records,
            fleet=fleet,
            point_in_time=_point_in_time(options),
            scanner=Scanner(records, LayerReader(reader), now),
            advisor=Advisor(options.advisories),
            policy=policy,
            taps=netlink,
            report=report,
            filter=firewall.labels,
        )
        stack.callback(host.close)
        yield host, firewall


def _point_in_time(options: Options) -> Callable[[Domain], AbstractContextManager[PointInTime]]:
    @contextmanager
    def still_disks(domain: Domain) -> Iterator[PointInTime]:
        disks = MachineDisks(domain.name, domain.uuid, True, domain.disks)
        with (
            LibvirtHypervisor(options.connect, state_directory=options.state_directory) as hypervisor,
            hypervisor.point_in_time(disks) as still,
        ):
            yield still

    return still_disks
