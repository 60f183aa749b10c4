"""The matrix of docs/ENTROPY.md: kernels, ways back and layers, two resumes each, and what both drew.

    .venv/bin/python tests/support/resumematrix.py          # prints its table; some minutes

Two resumes stand for any number: what one of them shares with the other, it shares with all.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

import resumelab
from resumelab import Guest, Lab, shared

DRAWS, LOOPED = 4, 20_000


class Way(StrEnum):
    """How a machine comes to a state that it was in before."""

    REVERT = "revert"
    SAVE = "managed save, restored twice"
    MONITOR = "load through the monitor"
    CLONE = "clone from RAM"
    BACKUP = "backup of the disk put back"


class Beneath(StrEnum):
    """What the layer does."""

    NOTHING = "off"
    EXPOSED = "on, exposed"
    QUIESCED = "on, quiesced"


@dataclass(frozen=True, slots=True)
class Row:
    """What two resumes share.

    Attributes:
        kernel: of `resumelab.KERNELS`.
        way: how they came about.
        beneath: what the layer did.
        looped: how many of the first `LOOPED` draws of a tight loop, begun after the resume, are the same.
        drawn: of each kind, how many values are: of `DRAWS`, but for signers and disk, which are asked once.
    """

    kernel: str
    way: Way
    beneath: Beneath
    looped: int
    drawn: dict[str, int] = field(default_factory=dict)


class Matrix:
    """One machine with one kernel, from which every way back is taken."""

    def __init__(self, lab: Lab, kernel: str) -> None:
        self.lab, self.kernel = lab, kernel
        self.guest = lab.boot()
        self.guest.ask("from_disk")
        self.names = 0

    def rows(self) -> Iterator[Row]:
        """Yield every row. Without the layer first: nobody serves the channel until then."""
        for beneath in Beneath:
            for way in Way:
                if way is not Way.BACKUP:
                    yield self.row(way, beneath)
        for beneath in (Beneath.NOTHING, Beneath.QUIESCED):
            yield self.backup(beneath)

    def row(self, way: Way, beneath: Beneath) -> Row:
        """Take one way back, twice."""
        guest, layer = self.guest, self.lab.layer
        if beneath is not Beneath.NOTHING and not guest.execution:
            layer.seed(guest)
        guest.ask("reseed")
        guest.ask("loop_start")
        guest.ask("loop_drawn", 0, 100)
        if beneath is Beneath.QUIESCED:
            layer.quiesce(guest)
        begin, ram = self._state(way, guest)
        first = resumelab.drawn_in(ram)
        guests, looped, drawn = [], [], []
        for number in range(2):
            guest = begin(number)
            if beneath is not Beneath.NOTHING:
                self._seed(guest, way, beneath, number)
            looped.append(guest.loop(first, LOOPED))
            drawn.append(self._drawn(guest))
            guests.append(guest)
        self.guest = guest
        if guests[0] is not guest:
            guests[0].end()
        return Row(self.kernel, way, beneath, shared(looped), self._shared(drawn, beneath))

    def backup(self, beneath: Beneath) -> Row:
        """Switch the machine off, and on with an earlier disk, twice."""
        lab = self.lab
        self.guest.end()
        disks = self.guest.disk, self.guest.state
        looped, drawn = [], []
        for _ in range(2):
            guest = lab.boot(*(lab.copy(disk) for disk in disks))
            if beneath is not Beneath.NOTHING:
                lab.layer.seed(guest)
            guest.ask("loop_start")
            looped.append(guest.loop(0, LOOPED))
            drawn.append(self._drawn(guest) | {name: [own] for name, own in guest.ask("from_disk").items()})
            guest.end()
        return Row(self.kernel, Way.BACKUP, beneath, shared(looped), self._shared(drawn, Beneath.QUIESCED))

    def _state(self, way: Way, guest: Guest) -> tuple[Callable[[int], Guest], bytes]:
        """Take the state that is gone back to; return what begins a resume from it, and its RAM."""
        lab, kept = self.lab, [guest]
        if way in (Way.SAVE, Way.CLONE):
            file, ram = lab.save(guest)

            def restored(_number: int) -> Guest:
                if way is Way.SAVE:
                    kept[-1].end()
                disks = guest.disk, guest.state
                if way is Way.CLONE:
                    disks = lab.copy(guest.disk), lab.copy(guest.state)
                kept.append(lab.restore(file, *disks))
                return kept[-1]

            return restored, ram
        self.names += 1
        name = f"s{self.names}"
        ram = lab.snapshot(guest, name)

        def put_back(number: int) -> Guest:
            if way is Way.REVERT:
                kept.append(lab.revert(kept[-1], name))
            elif number == 0:
                guest.monitor("cont")  # the first way on from the snapshot is the machine's own
            else:
                lab.load(guest, name)
            return kept[-1]

        return put_back, ram

    def _seed(self, guest: Guest, way: Way, beneath: Beneath, number: int) -> None:
        layer = self.lab.layer
        if way is not Way.MONITOR:
            layer.seed(guest, forked=way is Way.CLONE)
        elif number > 0:
            layer.found_out(guest)
        elif beneath is Beneath.QUIESCED:
            layer.go_on(guest)

    @staticmethod
    def _drawn(guest: Guest) -> dict[str, list[str]]:
        drawn: dict[str, list[str]] = guest.ask("draw", DRAWS)
        return drawn | {signer: [str(r)] for signer, (r, _) in guest.ask("sign", "order").items()}

    @staticmethod
    def _shared(drawn: list[dict[str, list[str]]], beneath: Beneath) -> dict[str, int]:
        """Count. What comes from the kernel's one stream is told without the layer by the tight loop alone:
        it has drawn so many before, in one resume, and so many in the other."""
        unaligned = {"getrandom", "uuid", "tls"} if beneath is Beneath.NOTHING else set()
        return {kind: shared(each[kind] for each in drawn) for kind in drawn[0] if kind not in unaligned}


def main() -> None:
    """Print the table."""
    for kernel in sys.argv[1:] or resumelab.KERNELS:
        with resumelab.lab(kernel) as lab:
            for row in Matrix(lab, kernel).rows():
                cells = " | ".join(f"{kind} {count}" for kind, count in row.drawn.items())
                sys.stdout.write(f"| {row.kernel} | {row.way} | {row.beneath} | {row.looped} | {cells} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
