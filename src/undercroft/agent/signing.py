"""The audit log's head is signed after decisions, and now and then told to the journal.

Many sites keep the journal elsewhere, where whoever rewrites this host's log does not reach it.
"""

import asyncio
import json
import time

from undercroft.agent.host import Host, now
from undercroft.errors import UndercroftError
from undercroft.model.audit import SignedHead
from undercroft.model.schema import encode
from undercroft.usecases.fleet.audit.audit import sign_head

SIGN_EVERY_S = 2.0
REPORT_HEAD_EVERY_S = 60.0
HEAD_MARK = "audit-head "
"""What a signed head in the journal stands behind: `sed -n 's/^audit-head //p'` makes a file of heads."""


class Signing:
    """Signs for one host; `sign` is for one thread at a time."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._unreported: SignedHead | None = None
        self._report_head_at = 0.0
        self._is_unsigned = False
        self._report_unsigned_at = 0.0

    async def run(self) -> None:
        """Sign for ever."""
        while True:
            await asyncio.sleep(SIGN_EVERY_S)
            await self._host.work(self.sign)

    def sign(self, *, last: bool = False) -> None:
        """Sign the log's head where it is new, and report it, or that it could not be, where it is time.

        Args:
            last: there is no later time; what is not reported yet is reported now.
        """
        places = self._host.places
        try:
            head = sign_head(self._host.records, places.audit_key, places.heads, now())
        except UndercroftError as error:
            self._tell_unsigned(error, last=last)
            return
        self._is_unsigned = False
        self._unreported = head or self._unreported
        if self._unreported is not None and (last or time.monotonic() >= self._report_head_at):
            self._host.report(f"{HEAD_MARK}{json.dumps(encode(self._unreported))}")
            self._unreported = None
            self._report_head_at = time.monotonic() + REPORT_HEAD_EVERY_S

    def _tell_unsigned(self, error: UndercroftError, *, last: bool) -> None:
        """Report at once and then each minute; every two seconds it would hide all else in the journal."""
        if last or not self._is_unsigned or time.monotonic() >= self._report_unsigned_at:
            self._is_unsigned = True
            self._host.problem("the audit log's head is not signed", error)
            self._report_unsigned_at = time.monotonic() + REPORT_HEAD_EVERY_S
