"""Answers the requests that change nothing: counters, ledgers, sealed blobs, signatures, guards."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import cast

from undercroft.channel.requests import Operation, Outcome, Request
from undercroft.errors import DamagedError
from undercroft.vault import answers, keeping
from undercroft.vault.answers import SPAN
from undercroft.vault.history import History
from undercroft.vault.keeping import Keeping, SigningKey
from undercroft.vault.names import name_of, number_of
from undercroft.vault.refusals import REASONS
from undercroft.vault.state import Vault
from undercroft.vault.work import OK, SYNCED, AnswerLine

_CACHED_KEYS = 1_024
_UNKNOWN = int(Outcome.UNKNOWN)


class Reader:
    """Reads vaults. What it answers is as durable as what was decided before: it leaves with its group."""

    def __init__(self, history: History, keep: Keeping, random: Callable[[int], bytes]) -> None:
        """Take the state, the encryption, and the host's random generator."""
        self._history = history
        self._keep = keep
        self._random = random
        self._keys: dict[tuple[bytes, int], SigningKey] = {}
        self._readers: Mapping[int, Callable[[Vault, int, int, Request], AnswerLine]] = MappingProxyType(
            {
                Operation.COUNTER: self._counter,
                Operation.LATEST: self._latest,
                Operation.UNSEAL: self._unseal,
                Operation.SIGN: self._sign,
                Operation.PUBLIC: self._public,
                Operation.GUARD: self._guard,
            }
        )

    def read(self, vault: Vault, execution: int, request: Request) -> AnswerLine:
        """Return the answer to a request; `execution` is the number of one that holds the fence, if any."""
        if request.operation == Operation.RANDOM:
            return (OK, SYNCED, self._random(cast("int", request.arguments[0])))
        if request.operation == Operation.STATUS:
            return (OK, SYNCED, self.status(vault))
        reader = self._readers[request.operation]
        try:
            return reader(vault, execution, number_of(cast("bytes", request.arguments[0])), request)
        except DamagedError as error:
            return (int(Outcome.FAILED), 0, str(error))

    def away(self, request: Request, text: str) -> AnswerLine | None:
        """Return the answer to a request that needs no vault, None to one that does.

        Args:
            request: of a guest whose vault another host keeps.
            text: which one.
        """
        if request.operation == Operation.RANDOM:
            return (OK, SYNCED, self._random(cast("int", request.arguments[0])))
        return (OK, SYNCED, text) if request.operation == Operation.STATUS else None

    def status(self, vault: Vault) -> str:
        """Return in words what a vault's acknowledgements rest on."""
        history = self._history
        rests = "synced, final spends anchored in the TPM"
        if not history.counted:
            rests = "synced; no TPM: whoever puts an earlier disk of the host back is not found out"
        voids = ""
        if history.voids:
            last = sorted(history.voids.items())[-5:]
            epochs = ", ".join(str(one) if one == other else f"{one} to {other}" for one, other in last)
            voids = f"; epochs that did not end as they should, the last of them: {epochs}"
        return f"epoch {history.epoch}, {rests}, {vault.names()} names{voids}"[:400]

    def lost(self, vault: Vault, name: int, version: int) -> AnswerLine | None:
        """Return the answer about a version that the vault does not know, where it may have given it out."""
        if version <= vault.core.version(name) or not self._history.is_void(version // SPAN):
            return None
        text = f"epoch {version // SPAN} did not end as it should, and this version of it is not in the log"
        return (int(Outcome.VOID), 0, text)

    def _counter(self, vault: Vault, _execution: int, name: int, _request: Request) -> AnswerLine:
        return (OK, SYNCED, vault.core.counter(name))

    def _latest(self, vault: Vault, _execution: int, name: int, request: Request) -> AnswerLine:
        height = vault.core.height(name)
        head = vault.core.head(name).to_bytes(32, "big")
        return (OK, SYNCED, height, head, vault.entries.get(name, b""), cast("bytes", request.arguments[1]))

    def _unseal(self, vault: Vault, _execution: int, name: int, request: Request) -> AnswerLine:
        version, asked = vault.core.version(name), cast("int", request.arguments[1])
        lost = self.lost(vault, name, asked)
        if lost is not None:
            return lost
        if not version:
            return (_UNKNOWN, 0, "nothing was sealed under this name")
        if asked not in (0, version):
            return (int(Outcome.REFUSED), 0, f"the latest version is {version}: no earlier one is kept")
        return (OK, SYNCED, version, self._keep.decrypt(vault.blobs[name], vault.machine, name_of(name)))

    def _sign(self, vault: Vault, execution: int, name: int, request: Request) -> AnswerLine:
        if vault.core.permit(execution, name) == answers.REVOKED:
            return (int(Outcome.REFUSED), 0, REASONS[answers.REVOKED])
        key = self._key(vault, name)
        if key is None:
            return (_UNKNOWN, 0, "there is no such key: ask for its public key first, which makes one")
        return (OK, SYNCED, keeping.sign(key, cast("bytes", request.arguments[1])))

    def _public(self, vault: Vault, _execution: int, name: int, _request: Request) -> AnswerLine:
        key = self._key(vault, name)
        if key is None:
            return (_UNKNOWN, 0, "there is no such key, and no room for one")
        return (OK, SYNCED, keeping.public(key))

    def _guard(self, vault: Vault, execution: int, name: int, _request: Request) -> AnswerLine:
        return (OK, SYNCED, vault.core.permit(execution, name) == answers.DONE)

    def _key(self, vault: Vault, name: int) -> SigningKey | None:
        """Return a signing key, from the few that are kept open; None where there is none."""
        kept = vault.keys.get(name)
        if kept is None:
            return None
        found = self._keys.get((vault.machine, name))
        if found is None:
            found = keeping.signing_key(kept[0], self._keep.decrypt(kept[1], vault.machine, name_of(name)))
            if len(self._keys) >= _CACHED_KEYS:
                self._keys.clear()
            self._keys[vault.machine, name] = found
        return found
