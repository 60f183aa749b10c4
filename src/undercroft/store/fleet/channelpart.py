"""A record's channels: confirmed seeds, what guests last said, snapshots of guests that stood still."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import select

from undercroft.model.channel import GuestChannel, Quiesced, Reseed
from undercroft.store.fleet import logged, tables
from undercroft.store.fleet.codec import from_text, from_texts
from undercroft.store.fleet.digests import to_text
from undercroft.store.fleet.logpart import LogPart
from undercroft.store.fleet.session import bodies_of


class ChannelPart(LogPart):
    """The methods of what lies beneath the guest."""

    def put_reseed(self, reseed: Reseed) -> None:
        """See `ports.records.Record.put_reseed`; the same once more is nothing new."""
        self._may_write()
        if self.reseed(reseed.eid) == reseed:
            return
        row = {"eid": reseed.eid, "machine": reseed.machine, "body": to_text(reseed)}
        self._put(tables.reseed, [row])
        self._append([logged.reseed_line(reseed)])

    def reseed(self, eid: str) -> Reseed | None:
        """See `ports.records.Record.reseed`."""
        bodies = self._bodies_where(tables.reseed.c.eid, eid)
        return from_text(Reseed, bodies[0], f"reseed of {eid}") if bodies else None

    def reseeds(self, eids: Collection[str]) -> Mapping[str, Reseed]:
        """See `ports.records.Record.reseeds`."""
        rows = self._about(select(tables.reseed.c.body), tables.reseed.c.eid, eids)
        return {one.eid: one for one in from_texts(Reseed, [row[0] for row in rows], "reseed")}

    def put_channels(self, channels: Sequence[GuestChannel]) -> None:
        """See `ports.records.Record.put_channels`."""
        self._put(tables.channel, [{"machine": one.machine, "body": to_text(one)} for one in channels])

    def channels(self, machines: Collection[str] | None = None) -> Mapping[str, GuestChannel]:
        """See `ports.records.Record.channels`."""
        rows = self._about(select(tables.channel.c.body), tables.channel.c.machine, machines)
        return {one.machine: one for one in from_texts(GuestChannel, [row[0] for row in rows], "channel")}

    def put_quiesced(self, quiesced: Quiesced) -> None:
        """See `ports.records.Record.put_quiesced`; the same once more is nothing new."""
        self._may_write()
        text = to_text(quiesced)
        if self._bodies_where(tables.quiesced.c.key, quiesced.key) == [text]:
            return
        self._put(tables.quiesced, [{"key": quiesced.key, "machine": quiesced.machine, "body": text}])
        self._append([logged.quiesced_line(quiesced)])

    def quiesced(self, machine: str = "") -> Mapping[str, Quiesced]:
        """See `ports.records.Record.quiesced`."""
        bodies = self._bodies(bodies_of(tables.quiesced, tables.quiesced.c.machine, machine))
        return {one.key: one for one in from_texts(Quiesced, bodies, "quiesced")}
