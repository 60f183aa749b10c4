"""What a proof of the packet filter leaves: what was proven, of what, under which assumptions, and what not.

A certificate is a value; `text` is how it is printed, `statement` is what a key signs (`signing`). Signed by
the key of the audit log it is evidence for others; without a signature it is a note of this host to itself.

What stands around the table belongs to it: `standing` has the words for what the findings leave of a proof.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from undercroft.assurance.auditlog import canonical
from undercroft.assurance.firewall.examplepacket import Example
from undercroft.assurance.firewall.hostfindings import Danger, Finding, folded
from undercroft.firewall.kernel import Hook, Table
from undercroft.model.schema import encode

_DOMAIN = "undercroft-firewall-certificate-2"


class Standing(StrEnum):
    """What is left of a proof of the table once its surroundings are known.

    CERTIFIED: the host filters as the policy says. RESERVED: it does unless what could not be told is
    otherwise. VOID: no certificate; the table is the policy, and what the host does is something else, as
    packets pass beside the table or are changed behind it, or what the proof assumes is not so. TABLE: the
    surroundings were not looked at.
    """

    CERTIFIED = "certified"
    RESERVED = "reserved"
    VOID = "void"
    TABLE = "table"


_HEADINGS = {
    Standing.CERTIFIED: "Certificate for table {}",
    Standing.RESERVED: "Certificate with reservations for table {}",
    Standing.VOID: "No certificate: table {} is the policy, what is around it defeats it",
    Standing.TABLE: "Certificate for table {} alone, not for what is around it",
}


@dataclass(frozen=True, slots=True)
class Theorem:
    """One thing that was shown.

    Attributes:
        name: "bridged", "to-host", "from-host", "contents of owned4", "never world -> db".
        says: what it means, in a sentence.
        cases: how many elements, pairs or formulas it was shown over.
    """

    name: str
    says: str
    cases: int = 1


@dataclass(frozen=True, slots=True)
class Certificate:
    """The kernel's table is the policy.

    Attributes:
        table: its name.
        generation: of the kernel's tables when it was read; a later one is not certified.
        policy_digest: of the policy.
        fleet_digest: of the machines, as the filter knows them.
        bytecode_digest: of chains and set definitions, as they were read.
        elements: how many the sets hold; they follow from policy and fleet, which is one of the theorems.
        theorems: what was shown.
        assumptions: what has to hold for it.
        not_covered: what it says nothing about.
        proven_at: when.
        host: where, "" where that was not told.
        looked_around: the surroundings were looked at, in this generation.
        findings: about them, worst first.
        key: of the signature, in hexadecimal, "" for none.
        signature: over `statement`, in hexadecimal.
    """

    table: str
    generation: int
    policy_digest: str
    fleet_digest: str
    bytecode_digest: str
    elements: int
    theorems: tuple[Theorem, ...]
    assumptions: tuple[str, ...]
    not_covered: tuple[str, ...]
    proven_at: datetime
    host: str = ""
    looked_around: bool = False
    findings: tuple[Finding, ...] = ()
    key: str = ""
    signature: str = ""

    @property
    def standing(self) -> Standing:
        """What it amounts to. Who reads others' traffic, or disturbs it, takes nothing from it."""
        if any(finding.danger.voids for finding in self.findings):
            return Standing.VOID
        if not self.looked_around:
            return Standing.TABLE
        told = all(finding.danger is not Danger.UNKNOWN for finding in self.findings)
        return Standing.CERTIFIED if told else Standing.RESERVED

    def statement(self) -> bytes:
        """Return what is signed: canonical JSON of everything but the signature, with the standing."""
        plain = replace(self, proven_at=self.proven_at.astimezone(UTC), signature="")
        return canonical([_DOMAIN, self.standing.value, encode(plain)]).encode("ascii")

    def text(self) -> str:
        """Return it for people."""
        lines = [
            f"{_HEADINGS[self.standing].format(self.table)}, generation {self.generation}"
            f"{f' of {self.host}' if self.host else ''}, "
            f"{self.proven_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
            f"policy   {self.policy_digest}",
            f"fleet    {self.fleet_digest}",
            f"bytecode {self.bytecode_digest}",
            f"elements {self.elements:,}",
            "",
            *self._around(),
            "Shown:",
            *(f"  {theorem.name}: {theorem.says} ({theorem.cases:,})" for theorem in self.theorems),
            "",
            "Assumed:",
            *(f"  {line}" for line in self.assumptions),
            "",
            "Not covered:",
            *(f"  {line}" for line in self.not_covered),
            "",
            f"Signed with {self.key}: {self.signature}" if self.signature else "Not signed",
        ]
        return "\n".join(lines) + "\n"

    def _around(self) -> list[str]:
        found = folded(self.findings)
        if not self.looked_around or not found:
            return []
        told = [
            f"  {finding.danger}: {finding.thing}: {finding.found}\n    -> {finding.cure}"
            for finding in found
        ]
        return ["Around the table:", *told, ""]


@dataclass(frozen=True, slots=True)
class Counterexample:
    """The kernel's table is not the policy.

    Attributes:
        theorem: what does not hold.
        says: how, in a sentence.
        set_name: of the set whose contents differ, "" for none.
        key: of the element that differs.
        expected: what the policy has for it: "absent", or its data.
        found: what the kernel has.
        packet: one that the kernel treats otherwise than the policy; None where none was found.
        kernel_passes: what the kernel does with it.
        policy_passes: what the policy does with it.
    """

    theorem: str
    says: str
    set_name: str = ""
    key: bytes = b""
    expected: str = ""
    found: str = ""
    packet: Example | None = None
    kernel_passes: bool = False
    policy_passes: bool = False

    def text(self) -> str:
        """Return it for people."""
        lines = [f"Not proven: {self.theorem}: {self.says}"]
        if self.set_name:
            lines.append(
                f"  element {self.key.hex()} of {self.set_name}: expected {self.expected}, found {self.found}"
            )
        if self.packet is not None:
            way = f"{self.packet.input_name or 'host'} -> {self.packet.output_name or 'host'}"
            verdicts = f"the kernel {_word(self.kernel_passes)} it, the policy {_word(self.policy_passes)} it"
            lines += [f"  packet {way}: {verdicts}", f"  {self.packet.frame.hex()}"]
        return "\n".join(lines) + "\n"


Answer = Certificate | Counterexample
"""Of a proof."""


def bytecode_digest(table: Table) -> str:
    """Return SHA-256 over chains, rules and set definitions; comments have no meaning and no part in it."""
    plain = [
        (
            chain.name,
            chain.hook,
            chain.priority,
            chain.policy,
            chain.bound,
            chain.unknown,
            [rule.expressions for rule in chain.rules],
        )
        for chain in sorted(table.chains, key=lambda chain: (chain.hook or Hook.PREROUTING, chain.name))
    ]
    sets = sorted(table.sets, key=lambda definition: definition.name)
    return hashlib.sha256(repr((table.name, table.flags, plain, sets)).encode()).hexdigest()


def _word(passes: bool) -> str:
    return "passes" if passes else "drops"
