"""What is known of images: the answers of this call, by which clones are judged, and the kept ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from undercroft.model.fleet import FileIdentity, ReadSet
from undercroft.model.images import KeptAnswer
from undercroft.model.inventory import Inventory
from undercroft.model.job import ProvenReads
from undercroft.model.looks import packages_digest
from undercroft.ports.imagecache import ImageCache
from undercroft.usecases.fleet.reading.layers import CachedAnswer, travelling
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.states import State


@dataclass(frozen=True, slots=True)
class Known:
    """The answer about a base's current state, as its clones are compared with it."""

    digest: str
    inventory: Inventory
    reads: ReadSet
    travelling: ProvenReads
    packages: str


class Answers:
    """Answers by image; for several threads.

    Args:
        cache: what is kept of earlier calls.
    """

    def __init__(self, cache: ImageCache) -> None:
        self._cache = cache
        self._known: dict[str, Known] = {}

    def known(self, path: str) -> Known | None:
        """Return what is known of an image's current state, None for nothing."""
        return self._known.get(path)

    def share(self, path: str, known: Known) -> None:
        """Take an answer for that of another image too: it was proven."""
        self._known[path] = known

    def forget(self, path: str) -> None:
        """Forget what was known of an image: nothing more will be compared with it."""
        self._known.pop(path, None)

    def cached(self, path: str, state: State) -> CachedAnswer | None:
        """Return what is kept of a state from an earlier call."""
        kept = self._cache.answer(path, _key(state))
        return CachedAnswer(kept.inventory, kept.files, kept.inputs, kept.reads) if kept else None

    def inventory(self, digest: str) -> Inventory | None:
        """Return the inventory of a digest, None where it is lost."""
        known = self._of_digest(digest)
        return known.inventory if known else self._cache.inventory(digest)

    def candidates(self, base: FileIdentity, limit: int) -> Sequence[tuple[str, ReadSet]]:
        """Return the answers that a state which rests on this file may have, as `layers.Candidates`."""
        del limit
        known = self._known.get(base.path)
        return ((known.digest, known.reads),) if known else ()

    def keep(
        self,
        path: str,
        machine: OpenMachine,
        state: State,
        inventory: Inventory,
        reads: ReadSet | None,
        problems: tuple[str, ...],
    ) -> None:
        """Keep what was read; nothing that failed on the way, which may go well the next time."""
        if reads is None and not inventory.coverage.complete:
            return
        digest = self._cache.keep_inventory(inventory, reads)
        self.keep_digest(path, machine, state, digest)
        self._know(path, state, inventory, reads, digest, problems)

    def found_again(
        self,
        path: str,
        state: State,
        inventory: Inventory,
        digest: str,
        cached: CachedAnswer | None,
        problems: tuple[str, ...],
    ) -> None:
        """Know an answer that was kept, or that of another image, for that of a state."""
        known = self._of_digest(digest)
        reads = known.reads if known else cached.reads if cached else None
        self._know(path, state, inventory, reads, digest, problems)

    def keep_digest(self, path: str, machine: OpenMachine, state: State, digest: str) -> None:
        """Keep which inventory is that of a state, where its files prove that they stay as they are."""
        files, inputs = machine.identities(state), machine.inputs(state)
        if inputs and all(file.proves for file in files) and not machine.problems(state):
            self._cache.keep_answer(path, _key(state), KeptAnswer(digest, files, inputs, None))

    def _know(
        self,
        path: str,
        state: State,
        inventory: Inventory,
        reads: ReadSet | None,
        digest: str,
        problems: tuple[str, ...],
    ) -> None:
        """Know the answer of a current state: other images and states may be compared with it."""
        if not state.is_current or reads is None or not reads.reads or problems:
            return
        packages = packages_digest(inventory.packages)
        self._known[path] = Known(digest, inventory, reads, travelling(reads), packages)

    def _of_digest(self, digest: str) -> Known | None:
        # The copy is made in one step: other threads add to it.
        return next((known for known in tuple(self._known.values()) if known.digest == digest), None)


def _key(state: State) -> str:
    return "" if state.is_current else f"{state.ident} {state.name}"
