"""What this host says on record of its filter: the policy that it holds, its proof, and what is wrong."""

import time
from dataclasses import replace
from datetime import datetime

from undercroft.agent.host import Host, now
from undercroft.assurance.firewall.certificate import Certificate
from undercroft.errors import UndercroftError
from undercroft.model.filter import FilterState
from undercroft.usecases.firewall.surrounding import Around
from undercroft.usecases.fleet.starts.labels import Followed, Labels

STATE_EVERY_S = 10.0
"""How often, at most, a state goes on record that differs from the last by the age of its proof only."""


class States:
    """Those of one host.

    Args:
        host: the host.
        labels: what its kernel holds.
        around: what stands around its table.

    Attributes:
        followed: what was done last to bring the kernel to the record.
        failure: why that failed, "" where it did not.
        drift: how the table differs from the policy, "" where it does not.
        proven_at: when it was proven last.
    """

    def __init__(self, host: Host, labels: Labels, around: Around) -> None:
        self._host = host
        self._labels = labels
        self._around = around
        self.followed: Followed | None = None
        self.failure = ""
        self.drift = ""
        self.proven_at: datetime | None = None
        self._written: FilterState | None = None
        self._written_at = 0.0

    def proven(self, certificate: Certificate) -> None:
        """Take note of a proof of the table."""
        self.proven_at, self.drift = certificate.proven_at, ""

    def forget(self) -> None:
        """Take note that nothing is filtered: what was said of the table is over."""
        self.drift, self.proven_at = "", None
        self._around.forget()

    def put(self) -> None:
        """Put this host's state on record where it is news."""
        if (self.followed is None or self.followed.applied is None) and not self.failure:
            return
        if not self._labels.is_known:  # what the host has filtered by is on record, and stays there
            return
        problem = "; ".join(filter(None, (self.failure, self.drift, self._around.problem)))
        state = self._around.noted(self._labels.state(self.followed, self.proven_at, problem, now()))
        if self._written is not None and self._is_old(self._written, state):
            return
        try:
            with self._host.records.transaction() as record:
                record.put_filter_state(state)
        except UndercroftError as error:
            self._host.problem("the firewall's state is not on record; it is tried again", error)
            return
        self._written, self._written_at = state, time.monotonic()

    def _is_old(self, written: FilterState, state: FilterState) -> bool:
        as_new = replace(
            written,
            at=state.at,
            generation=state.generation,
            proven_at=state.proven_at,
            around_at=state.around_at,
        )
        first = (written.proven_at is None) != (state.proven_at is None)
        first |= (written.around_at is None) != (state.around_at is None)
        return as_new == state and not first and time.monotonic() - self._written_at < STATE_EVERY_S
