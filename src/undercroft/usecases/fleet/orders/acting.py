"""What a command acts with: libvirt, the record, the policy, the advisories and a reader of its own.

    with closing(acting(connect, database)) as scene:
        machine = scene.machine("web01")
        with scene.examiner() as examiner:
            ...

A command acts without the agent: where no record is there yet it begins one, so that a revert is guarded on
a host on which nothing else runs.
"""

import difflib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from undercroft.errors import NotFoundError
from undercroft.model.domain import Survey
from undercroft.model.fleet import MachineRecord
from undercroft.ports.fleet import FleetHypervisor
from undercroft.ports.records import Records
from undercroft.usecases.fleet.orders.examine import Examiner
from undercroft.usecases.fleet.orders.hostexaminer import Sources, host_examiner
from undercroft.usecases.fleet.places import Places
from undercroft.usecases.fleet.verdicts.policyfile import read_policy
from undercroft.usecases.paths import readable_database
from undercroft.usecases.session import start_reader


def _clock() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Scene:
    """One host, as a command finds it; to be closed.

    Attributes:
        records: the record.
        fleet: libvirt.
        places: where the files lie.
        connect: libvirt URI, "" for libvirt's default.
        clock: gives the time.
        survey: what the host has now.
    """

    records: Records
    fleet: FleetHypervisor
    places: Places
    connect: str
    clock: Callable[[], datetime]
    survey: Survey

    def close(self) -> None:
        """Give the connections back."""
        self.fleet.close()
        self.records.close()

    def machine(self, name: str) -> MachineRecord:
        """Return the machine of that name, UUID or running ID, as libvirt has it now.

        Raises:
            NotFoundError: there is none; the message names similar ones.
        """
        for domain in self.survey.domains:
            running_id = str(domain.libvirt_id) if domain.libvirt_id else ""
            if name and name in {domain.uuid, domain.name, running_id}:
                return MachineRecord(self.survey.host, domain, self.survey.taken_at, self.survey.taken_at)
        near = difflib.get_close_matches(name, [domain.name for domain in self.survey.domains], 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise NotFoundError(f"{self.survey.uri} has no machine {name!r}{hint}")

    @contextmanager
    def examiner(self) -> Iterator[Examiner]:
        """Give an examiner with a sandbox of its own. Raises as `host_examiner`, and for a wrong policy."""
        policy = read_policy(self.places.policy, self.clock().date(), self.places.kept_policy)
        database = readable_database(os.environ, is_root=os.geteuid() == 0)
        sources = Sources(self.connect, database, policy)
        with (
            closing(start_reader()) as reader,
            host_examiner(self.records, self.survey, reader, sources, self.clock) as examiner,
        ):
            yield examiner


def acting(connect: str, database: str = "") -> Scene:
    """Return this host as a command finds it.

    Args:
        connect: libvirt URI, "" for libvirt's default.
        database: another record than this host's, "" for that.

    Raises:
        OperationError: libvirt cannot be asked.
        InputError, DeniedError, StateError: the record cannot be opened.
    """
    from undercroft.adapters.libvirt.fleet import LibvirtFleet  # noqa: PLC0415 - only for commands that act
    from undercroft.store.fleet.records import open_records  # noqa: PLC0415

    places = Places.default()
    with ExitStack() as opened:
        fleet = LibvirtFleet(connect)
        opened.callback(fleet.close)
        survey = fleet.survey()
        records = open_records(database or places.database_url)
        opened.pop_all()
    return Scene(records, fleet, places, connect, _clock, survey)
