"""Mistakes in the vault's core, each of which its proof has to notice: one small edit and what it breaks."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """An edit of the proven source.

    `old` stands there once, `new` takes its place; `select` names the methods whose proof has to fail.
    """

    name: str
    breaks: str
    select: str
    old: str
    new: str

    def applied(self, texts: Iterable[str]) -> list[str]:
        """The sources with the mistake in them."""
        listed = list(texts)
        found = sum(text.count(self.old) for text in listed)
        if found != 1:
            raise ValueError(f"mutant {self.name}: its text stands {found} times in the source, not once")
        return [text.replace(self.old, self.new) for text in listed]


MUTANTS = (
    Mutant(
        "negative-reserve",
        "A request for fewer than no values lets the counter fall.",
        "Counters.advance",
        "if count < 1 or count > RESERVE_LIMIT:",
        "if count > RESERVE_LIMIT:",
    ),
    Mutant(
        "boundless-reserve",
        "One request takes as many values as it likes.",
        "Counters.advance",
        "if count < 1 or count > RESERVE_LIMIT:",
        "if count < 1:",
    ),
    Mutant(
        "no-epoch-floor",
        "A new epoch goes on at the old one's values, which a rollback may repeat.",
        "Counters.advance",
        "if last < epoch * SPAN:",
        "if last > epoch * SPAN:",
    ),
    Mutant(
        "narrow-epoch",
        "An epoch's values begin at its number, among those of another.",
        "Counters.advance",
        "last = epoch * SPAN",
        "last = epoch",
    ),
    Mutant(
        "full-epoch",
        "The last value of an epoch is one of the next.",
        "Counters.advance",
        "if last + count >= (epoch + 1) * SPAN:",
        "if last + count > (epoch + 1) * SPAN:",
    ),
    Mutant(
        "overflowing-epoch",
        "Values run over into the next epoch.",
        "Counters.advance",
        "if last + count >= (epoch + 1) * SPAN:",
        "if last + count >= (epoch + 2) * SPAN:",
    ),
    Mutant(
        "forgotten-reserve",
        "Of what was reserved only the first value is noted: the others are given again.",
        "Counters.advance",
        "self.values[name] = last + count",
        "self.values[name] = last + 1",
    ),
    Mutant(
        "wrong-counter",
        "The value of another name is noted.",
        "Counters.advance",
        "self.values[name] = last + count",
        "self.values[count] = last + count",
    ),
    Mutant(
        "same-value",
        "The last value is given once more.",
        "Counters.advance",
        "        return last + 1",
        "        return last",
    ),
    Mutant(
        "last-for-first",
        "The caller takes the last value for the first, and goes over what is another's.",
        "Counters.advance",
        "        return last + 1",
        "        return last + count",
    ),
    Mutant(
        "spent-twice",
        "What is in the set is said to be new.",
        "Names.add",
        "            return False\n",
        "            return True\n",
    ),
    Mutant(
        "never-added",
        "The name is not added.",
        "Names.add",
        "self.names.add(name)",
        "self.names.add(0)",
    ),
    Mutant(
        "only-the-last",
        "The set forgets all but the last name.",
        "Names.add",
        "self.names.add(name)",
        "self.names.clear()\n        self.names.add(name)",
    ),
    Mutant(
        "never-granted",
        "What is new is said to be there.",
        "Names.add",
        "        return True",
        "        return False",
    ),
    Mutant(
        "any-height",
        "An entry goes to a height that the caller does not know.",
        "Ledgers.append",
        "height < 0 or height != self.height(name) or head",
        "height < 0 or head",
    ),
    Mutant(
        "any-head",
        "An entry goes over one that the caller has not seen.",
        "Ledgers.append",
        " or head != self.head(name):",
        ":",
    ),
    Mutant(
        "below-zero",
        "A ledger has a height below nothing.",
        "Ledgers.append",
        "if height < 0 or height",
        "if height",
    ),
    Mutant(
        "same-height",
        "The height stays, and the next entry takes the place of this one.",
        "Ledgers.append",
        "self.heights[name] = height + 1",
        "self.heights[name] = height",
    ),
    Mutant(
        "falling-height",
        "The ledger loses an entry.",
        "Ledgers.append",
        "self.heights[name] = height + 1",
        "self.heights[name] = height - 1",
    ),
    Mutant(
        "entry-for-head",
        "The head says nothing of earlier entries.",
        "Ledgers.append",
        "self.heads[name] = grown",
        "self.heads[name] = entry",
    ),
    Mutant(
        "swapped-link",
        "Head and entry change places in the chain.",
        "Ledgers.append",
        "grown = link(self.head(name), entry)",
        "grown = link(entry, self.head(name))",
    ),
    Mutant(
        "wrong-head",
        "Another ledger's head is changed.",
        "Ledgers.append",
        "self.heads[name] = grown",
        "self.heads[entry] = grown",
    ),
    Mutant(
        "old-height",
        "The caller is told the height before.",
        "Ledgers.append",
        "        return height + 1",
        "        return height",
    ),
    Mutant(
        "lost-update",
        "Who knows an older version writes over a newer one.",
        "Blobs.store",
        "if version != self.version(name):",
        "if version > self.version(name):",
    ),
    Mutant(
        "wrong-version",
        "Another blob's version grows.",
        "Blobs.store",
        "self.versions.advance(epoch, name, 1)",
        "self.versions.advance(epoch, content, 1)",
    ),
    Mutant(
        "old-content",
        "The version grows, the content stays what it was.",
        "Blobs.store",
        "self.contents[name] = content",
        "self.contents[name] = version",
    ),
    Mutant(
        "refused-and-stored",
        "A refused blob is stored, a granted one is not.",
        "Blobs.store",
        "if stored >= 0:",
        "if stored < 0:",
    ),
    Mutant(
        "any-number",
        "A slot answers for every number that falls into it.",
        "Window.keep,Window.clear",
        "if number < 1 or Unfolding(Rd(self.state()), self.numbers[number % WINDOW]) != number:",
        "if number < 1:",
    ),
    Mutant(
        "any-digest",
        "Another request of the same number gets the first one's answer.",
        "Window.keep,Window.clear",
        "if Unfolding(Rd(self.state()), self.digests[number % WINDOW]) != digest:",
        "if number < 1:",
    ),
    Mutant(
        "slow-count",
        "Numbers count by one, whatever the request's was: a number runs twice.",
        "Window.keep,Window.clear",
        "self.last = number",
        "self.last = self.last + 1",
    ),
    Mutant(
        "slot-for-number",
        "The slot keeps no number.",
        "Window.keep,Window.clear",
        "self.numbers[slot] = number",
        "self.numbers[slot] = slot",
    ),
    Mutant(
        "no-digest",
        "The digest is not kept.",
        "Window.keep,Window.clear",
        "self.digests[slot] = digest",
        "self.digests[slot] = answer",
    ),
    Mutant(
        "no-answer",
        "The answer is not kept.",
        "Window.keep,Window.clear",
        "self.answers[slot] = answer",
        "self.answers[slot] = digest",
    ),
    Mutant(
        "next-slot",
        "The answer lies in the next one's slot.",
        "Window.keep,Window.clear",
        "slot = number % WINDOW",
        "slot = (number + 1) % WINDOW",
    ),
    Mutant(
        "count-goes-on",
        "The next execution's first request is taken for an old one.",
        "Window.keep,Window.clear",
        "        self.last = 0\n",
        "        self.last = 1\n",
    ),
    Mutant(
        "kept-over-executions",
        "An execution gets the answer to another's request.",
        "Window.keep,Window.clear",
        "self.numbers = [0] * WINDOW",
        "self.numbers = [1] * WINDOW",
    ),
    Mutant(
        "epoch-again",
        "An epoch begins twice.",
        "Core.begin",
        "if epoch <= self.era() or",
        "if epoch < self.era() or",
    ),
    Mutant(
        "earlier-epoch",
        "An earlier epoch comes back.",
        "Core.begin",
        "if epoch <= self.era() or epoch",
        "if epoch",
    ),
    Mutant(
        "endless-epochs",
        "Values grow past 63 bits.",
        "Core.begin",
        "if epoch <= self.era() or epoch >= EPOCH_LIMIT:",
        "if epoch <= self.era():",
    ),
    Mutant(
        "epoch-unsaid",
        "The epoch is granted and does not begin.",
        "Core.begin",
        "self.epoch = epoch\n        self.changes",
        "self.epoch = self.epoch\n        self.changes",
    ),
    Mutant(
        "back-from-the-dead",
        "An execution that ended gets the fence back.",
        "Core.take",
        "if execution <= self.owner():",
        "if execution < self.owner():",
    ),
    Mutant(
        "earlier-execution",
        "An earlier execution takes the fence from a later one.",
        "Core.take",
        "if execution <= self.owner():",
        "if execution == self.owner():",
    ),
    Mutant(
        "fork-takes-over",
        "A fork takes the fence from the machine that lives.",
        "Core.take",
        "if forked and self.living():",
        "if forked and not self.living():",
    ),
    Mutant(
        "before-the-epoch",
        "The fence is given before an epoch has begun.",
        "Core.take",
        "if self.era() < 1:",
        "if self.era() < 0:",
    ),
    Mutant(
        "answers-of-the-last",
        "The next execution gets the last one's answers.",
        "Core.take",
        "        self.window.clear()\n",
        "",
    ),
    Mutant(
        "dead-holder",
        "The fence is given and nobody holds it.",
        "Core.take",
        "self.lives = True",
        "self.lives = False",
    ),
    Mutant(
        "wrong-holder",
        "The fence is given to another than who asked.",
        "Core.take",
        "self.fence = execution",
        "self.fence = self.fence + 1",
    ),
    Mutant(
        "anyone-ends",
        "Any execution takes the fence from the one that holds it.",
        "Core.end",
        "if not self.living() or execution != self.owner():\n            return LOST",
        "if not self.living():\n            return LOST",
    ),
    Mutant(
        "never-ends",
        "Who ended keeps the fence.",
        "Core.end",
        "self.lives = False",
        "self.lives = True",
    ),
    Mutant(
        "dead-writer",
        "An execution that ended changes the vault.",
        "Core.request",
        "if not self.living() or execution != self.owner():\n            return FENCED\n        if number",
        "if execution != self.owner():\n            return FENCED\n        if number",
    ),
    Mutant(
        "any-writer",
        "Every execution changes the vault.",
        "Core.request",
        "if not self.living() or execution != self.owner():\n            return FENCED\n        if number",
        "if not self.living():\n            return FENCED\n        if number",
    ),
    Mutant(
        "last-runs-again",
        "The last request runs again when it comes again.",
        "Core.request",
        "if number <= self.newest():",
        "if number < self.newest():",
    ),
    Mutant(
        "another-answer",
        "A repeat gets another answer.",
        "Core.request",
        "return self.repeated(number, digest)\n        Unfold",
        "return FORGOTTEN\n        Unfold",
    ),
    Mutant(
        "spent-is-granted",
        "Whoever comes late gets the one-time value.",
        "Core.request",
        "DONE if self.spent.add(name) else SPENT",
        "SPENT if self.spent.add(name) else DONE",
    ),
    Mutant(
        "spends-the-revoked",
        "A spend is noted among the revocations.",
        "Core.request",
        "DONE if self.spent.add(name) else SPENT",
        "DONE if self.revoked.add(name) else SPENT",
    ),
    Mutant(
        "epochless-version",
        "Versions know no epoch, and come twice after a rollback.",
        "Core.request",
        "self.blobs.store(self.epoch, name, first, second)",
        "self.blobs.store(0, name, first, second)",
    ),
    Mutant(
        "fence-for-epoch",
        "Values begin at the execution's number, not at the epoch's.",
        "Core.request",
        "self.counters.advance(self.epoch, name, first)",
        "self.counters.advance(self.fence, name, first)",
    ),
    Mutant(
        "revokes-another",
        "Another name is revoked.",
        "Core.request",
        "            self.revoked.add(name)\n            answer = DONE",
        "            self.revoked.add(first)\n            answer = DONE",
    ),
    Mutant(
        "refused-revocation",
        "The name is revoked, the caller told that it is not.",
        "Core.request",
        "            self.revoked.add(name)\n            answer = DONE",
        "            self.revoked.add(name)\n            answer = UNKNOWN",
    ),
    Mutant(
        "keeps-done",
        "A repeat of what was refused is told that it was granted.",
        "Core.request",
        "self.window.keep(number, digest, answer)",
        "self.window.keep(number, digest, DONE)",
    ),
    Mutant(
        "unrecorded",
        "A change has no record: the log would lose it.",
        "Core.request",
        "        self.changes = self.changes + 1\n        Fold(self.holdings())",
        "        Fold(self.holdings())",
    ),
    Mutant(
        "swapped-expectation",
        "Height and head of the caller change places.",
        "Core.request",
        "self.ledgers.append(name, first, second, third)",
        "self.ledgers.append(name, second, first, third)",
    ),
    Mutant(
        "permits-the-revoked",
        "A revoked key goes on signing.",
        "Core.permit",
        "return REVOKED if self.is_revoked(name) else DONE",
        "return DONE",
    ),
    Mutant(
        "permits-the-fenced",
        "An execution without the fence signs.",
        "Core.permit",
        "            return FENCED\n        return REVOKED",
        "            return DONE\n        return REVOKED",
    ),
    Mutant(
        "born-alive",
        "A fresh vault's fence is held.",
        "fresh",
        "return Core(0, 0, False, 0,",
        "return Core(0, 0, True, 0,",
    ),
    Mutant(
        "takes-nothing-over",
        "What a vault held is lost when it is put back.",
        "Counters,fresh",
        "self.values: dict[int, int] = values",
        "self.values: dict[int, int] = {}",
    ),
    Mutant(
        "spent-for-revoked",
        "Spent values and revocations change places when a vault is put back.",
        "Core.__init__",
        "self.spent: Names = spent",
        "self.spent: Names = revoked",
    ),
)

# Those that each proof tries as well: the smallest parts, so that it takes a second.
TRIED = frozenset({"same-value", "spent-twice", "any-head"})
