"""What `undercroft doctor` looks at, how, and what it says of each thing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from undercroft.model.domain import Survey
from undercroft.model.finding import FeedStatus
from undercroft.ports.reader import Reader
from undercroft.ports.records import Records
from undercroft.steady.policy import Policy
from undercroft.usecases.fleet.doctor.filter import FilterHost
from undercroft.usecases.fleet.doctor.health import Check
from undercroft.usecases.fleet.places import Places


@dataclass(frozen=True, slots=True)
class CheckedHost:
    """What is looked at, and the ways to look.

    Attributes:
        places: Undercroft's own folders.
        hooks: libvirt's folder of hooks.
        run: where daemons leave their process IDs.
        version: the version of the libvirt that answers.
        survey: all machines.
        records: opens the record that is there.
        policy: the policy as its files have it now.
        feeds: the advisories' sources.
        reader: starts a sandbox.
        clock: now.
        filter: the packet filter.
        guests: what the guest service says of itself (`status`); None where nobody is to ask it.
    """

    places: Places
    hooks: Path
    run: Path
    version: Callable[[], str]
    survey: Callable[[], Survey]
    records: Callable[[], AbstractContextManager[Records]]
    policy: Callable[[], Policy]
    feeds: Callable[[], Sequence[FeedStatus]]
    reader: Callable[[], AbstractContextManager[Reader]]
    clock: Callable[[], datetime]
    filter: FilterHost
    guests: Callable[[], Mapping[str, object]] | None = None


Look = Callable[[CheckedHost], Iterable[Check]]
