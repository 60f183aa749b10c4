"""One guest's sessions, one after another: what it says goes in, what is to be sent and told comes out.

No I/O: `surroundings` is what it needs of the service, and its link's buffer takes what is to be sent.

Invariants, each of which a test plays an attack against:

1. A seed is given in each session of an execution until one is confirmed, in the first that begins after a
   quiesce, and in those of another boot until that boot has confirmed; it is the seed of that session alone,
   and is dropped with it.
2. While a quiesced machine is silent, as one that is paused for its snapshot, no session begins by itself: it
   would bring a seed, and thaw it. Where one has to begin all the same, `again` says so.
3. After a proven rewind no session begins.
4. Sessions begin as often as `BEGINS` lets them, however often the guest asks.
5. Of a guest's requests at most `MAX_IN_FLIGHT` wait for the vault; more are answered `BUSY` at once.
6. An answer to a request of an earlier session is dropped: the guest asks again under its number.
"""

from collections.abc import Sequence
from enum import Enum

from undercroft.channel.messages import (
    About,
    AnswerLines,
    Confirmed,
    GuestMessage,
    Quiesce,
    Quiesced,
    Requests,
    Thawed,
)
from undercroft.channel.requests import Outcome
from undercroft.channel.seen import Rewound, Seen
from undercroft.channel.session import Broken, Message, Ready, Session
from undercroft.errors import InputError, StateError
from undercroft.guestservice.keep import Kept
from undercroft.guestservice.link import MOST_BYTES, Link
from undercroft.guestservice.naming import Who
from undercroft.guestservice.seeds import Seeds, confirmed_fields
from undercroft.guestservice.surroundings import Surroundings
from undercroft.vault.work import AnswerLine

TICK_S = 1.0
MAX_UNANSWERED = 3
MAX_FREEZING = 15
"""Pings that a guest which is asked to freeze may leave unanswered: until it has, it does nothing else."""

RETRY_TICKS = 3
HELD_S = 120.0
"""After which a quiesced guest gets another session without an order: it must not stay frozen for ever."""

MAX_IN_FLIGHT = 64
BEGINS = 8
"""Sessions that may begin at once; then one in each tick."""

_BUSY: AnswerLine = (int(Outcome.BUSY), 0, f"more than {MAX_IN_FLIGHT} requests are on their way: ask again")


class Quiet(Enum):
    """Where a quiesce stands."""

    NONE = "none"
    ASKED = "asked"
    FROZEN = "frozen"


class Guest:
    """A machine in one execution at one link.

    Attributes:
        who: as the agent named it.
        link: its socket.
        kept: what outlives the process.
        fenced: another execution holds the vault.
        about: untrusted: helper, kernel and abilities, as it last said.
    """

    def __init__(self, who: Who, link: Link, kept: Kept, around: "Surroundings[Guest]", now: float) -> None:
        """Take a guest; `start` begins its first session."""
        self.who, self.link, self.kept = who, link, kept
        self.fenced = False
        self.about: About | None = None
        self.told: dict[str, dict[str, object]] = {}
        """The last event of each kind that still holds: what a new watcher is told first."""
        self._around = around
        self._attached_at = now
        self._session = Session(who.machine, who.execution, around.random, around.microseconds, kept.seen)
        if kept.confirmed is not None:
            self.told["confirmed"] = confirmed_fields(kept.confirmed)
        self._number = 0
        self._is_over = False
        self._ticks = 0
        self._begins = float(BEGINS)
        self._seeds = Seeds(who, kept, around.random, around.next_generation)
        self._in_flight = 0
        self._quiet, self._quiesces, self._held_until = Quiet.NONE, 0, 0.0

    @property
    def seen(self) -> Seen | None:
        """What was seen; another object whenever it has changed."""
        return self._session.seen

    @property
    def dropped(self) -> int:
        """Frames that were none, or of no session."""
        return self._session.dropped

    @property
    def is_open(self) -> bool:
        """Whether a session is open."""
        return self._session.is_open and not self._is_over

    @property
    def is_rewound(self) -> bool:
        """Whether a rewind was proven in this execution."""
        return self._session.seen is not None and self._session.seen.proven

    @property
    def state(self) -> str:
        """One word: `rewound`, `quiesced`, `open`, `silent` or `waiting`."""
        if self.is_rewound:
            return "rewound"
        if self._quiet is Quiet.FROZEN:
            return "quiesced"
        if self.is_open:
            return "open"
        return "silent" if "silent" in self.told else "waiting"

    def start(self) -> None:
        """Begin the first session, or tell that this execution ended with a proven rewind."""
        if self.is_rewound:
            text = "a rewind was proven in this execution before: it goes on in another"
            self._tell("rewound", {"proof": "", "text": text})
            return
        self._begin()

    def receive(self, untrusted: bytes, now: float) -> None:
        """Take bytes of the guest's."""
        session = self._session
        before = session.seen
        for event in session.receive(untrusted):
            if isinstance(event, Message):
                if not self._is_over:
                    self._message(event.message, now)
            elif isinstance(event, Ready):
                self._ready(event)
            elif isinstance(event, Broken):
                self._over()
            else:
                self._rewound(event)
        if session.seen is not before:
            self._around.keep(self)

    def answer(self, number: int, first: int, lines: Sequence[AnswerLine]) -> None:
        """Send the answers to a batch of the session `number`, in as many messages as they need."""
        if number != self._number or not self.is_open:
            return
        self._in_flight -= len(lines)
        self._send_answers(first, lines)

    def tick(self, now: float) -> None:
        """Do what is due; to be called every `TICK_S`."""
        self._begins = min(BEGINS, self._begins + 1)
        self._ticks += 1
        if self.is_rewound:
            return
        if self._quiet is not Quiet.NONE and now >= self._held_until:
            self._end_quiet()
            self._begin()
        elif self.is_open:
            most = MAX_FREEZING if self._quiet is Quiet.ASKED else MAX_UNANSWERED
            if self._session.unanswered >= most:
                self._silent()
            else:
                self._ping()
        elif self._ticks >= RETRY_TICKS and self.link.is_drained:
            self._begin_if_allowed()

    def quiesce(self, now: float) -> int:
        """Ask the guest to freeze all but its helper; return the number of that.

        Raises StateError where no session is open, or a quiesce is under way.
        """
        if not self.is_open:
            raise StateError("the guest has no session: it cannot be quiesced; is its helper running?")
        if self._quiet is not Quiet.NONE:
            raise StateError("the guest is quiesced already: order `again` first")
        self._session_send(Quiesce(self._quiesces + 1))
        self._quiesces += 1
        self._quiet, self._held_until = Quiet.ASKED, now + HELD_S
        return self._quiesces

    def again(self) -> bool:
        """Begin another session with a seed; return whether the guest was quiesced without a break until now.

        Raises StateError after a rewind was proven.
        """
        if self.is_rewound:
            raise StateError("a rewind was proven in this execution: renew it in another")
        held = self._quiet is Quiet.FROZEN
        self._end_quiet()
        self._begin()
        return held

    def end(self) -> None:
        """Send nothing more: the link is another guest's, or closed. Answers that come yet are dropped."""
        self._number += 1
        self._is_over = True
        self._seeds.drop()

    def session_number(self) -> int:
        """Return what tells this session from the ones before."""
        return self._number

    def _begin(self) -> None:
        self._number += 1
        self._is_over = False
        self._ticks = self._in_flight = 0
        self._seeds.drop()
        self._begins -= 1
        self.told.pop("ready", None)
        self.link.begin(self._session.begin())

    def _begin_if_allowed(self) -> None:
        """Begin a session, unless too many have begun: the next tick tries again."""
        if self._begins >= 1:
            self._begin()

    def _over(self) -> None:
        """The session is over, from whichever side."""
        self._number += 1
        self._is_over = True
        self._seeds.drop()
        self._ticks = RETRY_TICKS
        if self._quiet is not Quiet.NONE:
            self._end_quiet()
            self._tell("silent", {})
        self._begin_if_allowed()

    def _end_quiet(self) -> None:
        """Nothing is quiesced any more that anybody could rely on: the next session thaws."""
        self._quiet, self._seeds.are_due = Quiet.NONE, True
        self.told.pop("quiesced", None)

    def _silent(self) -> None:
        """Three pings are unanswered: a paused machine, a dead helper, or a load through the monitor."""
        if self._quiet is Quiet.FROZEN:
            return  # paused for its snapshot
        if "silent" not in self.told:
            self._tell("silent", {})
        if self._quiet is Quiet.ASKED:
            self._end_quiet()
        if self.link.is_drained:  # else a hello would only wait behind what nobody reads
            self._begin_if_allowed()

    def _ready(self, event: Ready) -> None:
        generation, seed = self._seeds.give(event.nonces, event.boot, frozen=event.frozen)
        if seed is not None:
            self._around.seeded(self, generation)
        following = self._around.next_request(self)
        self.link.out += self._session.welcome(generation, seed, following)
        self._tell("ready", {"boot": event.boot.hex(), "frozen": event.frozen})
        self.told.pop("silent", None)

    def _message(self, message: GuestMessage, now: float) -> None:
        self.told.pop("silent", None)
        if isinstance(message, Requests):
            self._requests(message)
        elif isinstance(message, About):
            self.about = message
            self._tell(
                "about",
                {"helper": message.helper, "kernel": message.kernel, "abilities": list(message.able)},
            )
        elif isinstance(message, Confirmed):
            self._confirmed(message, now)
        elif isinstance(message, Quiesced):
            self._quiesced(message)
        elif isinstance(message, Thawed) and self._quiet is Quiet.FROZEN:
            self._end_quiet()

    def _requests(self, message: Requests) -> None:
        count = len(message.requests)
        if self._in_flight + count > MAX_IN_FLIGHT:
            self._send_answers(message.first, [_BUSY] * count)
            return
        self._in_flight += count
        self._around.ask(self, message.first, message.requests)

    def _confirmed(self, message: Confirmed, now: float) -> None:
        """A tag of the seed that this session offered opens the gate; any other is dropped."""
        found = self._seeds.confirmed(message, int((now - self._attached_at) * 1000))
        if found is None:
            return
        self._around.confirm(self, found)
        self._tell("confirmed", confirmed_fields(found))

    def _quiesced(self, message: Quiesced) -> None:
        if self._quiet is not Quiet.ASKED or message.number != self._quiesces:
            return
        if message.frozen:
            self._quiet = Quiet.FROZEN
        else:
            self._end_quiet()
        fields: dict[str, object] = {"number": message.number, "frozen": message.frozen}
        fields |= {"processes": message.processes, "text": message.text}
        self._tell("quiesced", fields)

    def _rewound(self, event: Rewound) -> None:
        self._number += 1
        self._seeds.drop()
        self._quiet = Quiet.NONE
        self.link.out.clear()
        self._tell("rewound", {"proof": event.proof.name.lower(), "text": str(event)})

    def _ping(self) -> None:
        try:
            self.link.out += self._session.ping()
        except StateError:  # it has left too many frames untaken
            self._over()
        self._check_room()

    def _session_send(self, message: Quiesce) -> None:
        try:
            self.link.out += self._session.seal(message)
        except StateError:
            self._over()
            raise

    def _send_answers(self, first: int, lines: Sequence[AnswerLine]) -> None:
        try:
            self.link.out += self._session.seal(AnswerLines(first, lines))
        except InputError:  # more than a frame holds
            half = len(lines) // 2
            if half:
                self._send_answers(first, lines[:half])
                self._send_answers(first + half, lines[half:])
        except StateError:
            if self._session.is_open:
                self._over()
        self._check_room()

    def _check_room(self) -> None:
        """Who does not read is cut off: the session is over, and what waits is dropped."""
        if len(self.link.out) > MOST_BYTES:
            self.link.out.clear()
            self._over()

    def _tell(self, event: str, fields: dict[str, object]) -> None:
        self.told[event] = fields
        self._around.tell(self, event, fields)
