"""A record's homes of vaults: which host keeps which machine's."""

from collections.abc import Mapping

from sqlalchemy import select

from undercroft.model.vaulthome import VaultHome
from undercroft.store.fleet import logged, tables
from undercroft.store.fleet.codec import from_text, from_texts
from undercroft.store.fleet.digests import to_text
from undercroft.store.fleet.logpart import LogPart


class HomePart(LogPart):
    """The methods of vaults' homes."""

    def put_vault_home(self, home: VaultHome, by: str, reason: str) -> None:
        """See `ports.records.Record.put_vault_home`."""
        self._may_write()
        before = self.vault_home(home.machine)
        self._put(tables.vault_home, [{"machine": home.machine, "body": to_text(home)}])
        if line := logged.home_line(before, home, by, reason):
            self._append([line])

    def vault_home(self, machine: str) -> VaultHome | None:
        """See `ports.records.Record.vault_home`."""
        bodies = self._bodies_where(tables.vault_home.c.machine, machine)
        return from_text(VaultHome, bodies[0], f"home of the vault of {machine}") if bodies else None

    def vault_homes(self) -> Mapping[str, VaultHome]:
        """See `ports.records.Record.vault_homes`."""
        bodies = self._bodies(select(tables.vault_home.c.body))
        return {one.machine: one for one in from_texts(VaultHome, bodies, "home of a vault")}
