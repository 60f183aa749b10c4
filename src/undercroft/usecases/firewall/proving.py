"""The filter of this host proven, with what stands around it: a certificate that is signed and on record.

    proven = prove(ground, wanted, Signing(records, places.audit_key), now)
    print(proven.answer.text())
    export(proven.answer, path); verify_certificate(path, pinned_key)

1. The kernel's table is read, and proven to be policy and fleet.
2. The host is looked at for what passes the table by, in the same generation of tables.
3. Findings become part of the certificate; what it is then called is its `standing`.
4. One that stands is signed with the key of the audit log's heads, and the log gets its digest.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from json import loads
from pathlib import Path

from undercroft.assurance.auditlog import canonical
from undercroft.assurance.firewall import signing
from undercroft.assurance.firewall.certificate import Certificate, Counterexample, Standing
from undercroft.assurance.firewall.hostfindings import Finding
from undercroft.assurance.firewall.proof import Answer, Prover
from undercroft.errors import DeniedError, InputError, NotFoundError, OperationError, StateError
from undercroft.firewall.classes import Classes
from undercroft.firewall.compiler import TABLE_NAME
from undercroft.firewall.fleet import Fleet
from undercroft.firewall.policy import FirewallPolicy
from undercroft.model.schema import Json, decode, encode
from undercroft.ports.packetfilter import PacketFilter
from undercroft.ports.records import Records
from undercroft.usecases.firewall import memory, numbering
from undercroft.usecases.firewall.surrounding import Ground, judged
from undercroft.usecases.fleet.audit.headfile import existing_key

ATTEMPTS = 4
"""A machine may come or go between the record's word and the kernel's."""
MAX_FILE_BYTES = 16 << 20
SCHEMA = "undercroft/certificate/1"
LOG_KIND = "firewall"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the kernel should hold: the applied policy, this host's view of the machines, their classes."""

    policy: FirewallPolicy
    fleet: Fleet
    classes: Classes


@dataclass(frozen=True, slots=True)
class Signing:
    """Where a certificate goes on record, and the key that signs it. `key_path`: has to be there already."""

    records: Records
    key_path: Path


@dataclass(frozen=True, slots=True)
class Proven:
    """What came of it.

    Attributes:
        answer: the certificate with its findings, signed where it is; or a counterexample.
        findings: about the surroundings, worst first, also beside a counterexample.
        signed: the certificate is signed, and its digest is in the audit log.
    """

    answer: Answer
    findings: tuple[Finding, ...]
    signed: bool

    @property
    def standing(self) -> Standing:
        """What the answer amounts to; a counterexample is VOID."""
        return self.answer.standing if isinstance(self.answer, Certificate) else Standing.VOID


def prove(
    ground: Ground,
    wanted: Callable[[], Wanted],
    signing_with: Signing | None,
    clock: Callable[[], datetime],
    prover: Prover | None = None,
) -> Proven:
    """Prove what the kernel holds, and say what stands around it.

    Args:
        ground: the host.
        wanted: asked anew for each attempt, as machines come and go.
        signing_with: None leaves the certificate unsigned and the log as it is.
        clock: tells the time, with its zone.
        prover: one that remembers what it has proven, None for a new one.

    Raises:
        NotFoundError: there is no table, or no key.
        StateError: a machine has no class.
        DeniedError: no right to read the kernel's tables.
        OperationError: others change the tables faster than they can be read.
    """
    prover = prover or Prover(clock)
    for _ in range(ATTEMPTS):
        answer, findings, settled = _looked(ground, wanted(), prover)
        if settled and isinstance(answer, Certificate):
            break
    if not settled:
        raise OperationError(
            f"nftables: the tables changed {ATTEMPTS} times while they were proven; try again"
        )
    if isinstance(answer, Certificate) and signing_with is not None and answer.standing in signing.SIGNED:
        return Proven(_signed(answer, signing_with), findings, signed=True)
    return Proven(answer, findings, signed=False)


def classes_held(packet_filter: PacketFilter, memory_path: Path, now: datetime) -> Classes:
    """Return the classes that the kernel's table is made with, as the agent has noted them.

    Raises:
        StateError: there is no table, or what was noted is not of it.
        DeniedError, OperationError: either cannot be read.
    """
    try:
        table = packet_filter.read(TABLE_NAME, sets=()).table
    except NotFoundError as error:
        raise StateError(
            f"a policy is in force by the record, and this host's kernel has no table {TABLE_NAME!r}: nothing"
            " is filtered here; undercroft doctor says why"
        ) from error
    found = numbering.matched(memory.load(memory_path), table, now)
    if found is None:
        raise StateError(
            f"{memory_path}: the agent's classes are not those of the kernel's table {TABLE_NAME!r}: "
            "systemctl restart undercroft makes it anew"
        )
    return found.numberings[0].classes


def document(proven: Proven) -> dict[str, Json]:
    """Return it for programs: `docs/schema/certificate-v1.json`."""
    answer = proven.answer
    return {
        "schema": SCHEMA,
        "standing": proven.standing.value,
        "signed": proven.signed,
        "findings": encode(proven.findings),
        "certificate": encode(answer) if isinstance(answer, Certificate) else None,
        "counterexample": _told(answer) if isinstance(answer, Counterexample) else None,
    }


def export(proven: Proven, path: Path) -> None:
    """Write a signed certificate into a file, for its owner only; the whole file is there or none.

    Raises:
        StateError: it is not signed.
        OperationError: the disk failed.
    """
    if not proven.signed:
        raise StateError(
            f"{path}: the certificate is not signed, it is {proven.standing}: nothing is exported"
        )
    draft = path.with_name(f"{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with open(os.open(draft, flags, 0o600), "wb") as out:
            out.write(canonical(document(proven)).encode("ascii") + b"\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise OperationError(f"{path}: {error.strerror}; the certificate is not exported") from error
    finally:
        draft.unlink(missing_ok=True)


def verify_certificate(path: Path, key: str, records: Records | None = None) -> Certificate:
    """Verify an exported certificate.

    Args:
        path: what `export` wrote; untrusted.
        key: the pinned public key in hexadecimal.
        records: where they are given, its digest has to be in their audit log, which is verified by itself.

    Returns:
        The certificate: it is what the holder of the key has proven then, and nothing of what is now.

    Raises:
        StateError: it is not signed with that key, or void, or not in the log.
        InputError: the file is no certificate.
        NotFoundError, DeniedError, OperationError: it cannot be read.
    """
    certificate = _read(path)
    signing.check_signature(certificate, key)
    if records is not None and not _is_logged(records, certificate):
        raise StateError(
            f"{path}: the audit log knows nothing of it: it was made elsewhere, or the log was cut"
        )
    return certificate


def _looked(ground: Ground, wanted: Wanted, prover: Prover) -> tuple[Answer, tuple[Finding, ...], bool]:
    """Prove and look around once; the last value is False where the tables changed meanwhile."""
    ruleset = ground.packet_filter.read(TABLE_NAME, written=False)
    answer = prover.prove(ruleset, wanted.policy, wanted.fleet, wanted.classes)
    findings = judged(ground, ruleset.table, wanted.fleet.ports)
    settled = ground.packet_filter.generation() == ruleset.generation
    if isinstance(answer, Counterexample):
        return answer, findings, settled
    around = replace(answer, host=wanted.fleet.host, looked_around=True, findings=findings)
    return around, findings, settled


def _signed(certificate: Certificate, signing_with: Signing) -> Certificate:
    signed = signing.sign(existing_key(signing_with.key_path), certificate)
    body: dict[str, Json] = {
        "certificate": signing.digest(signed),
        "standing": signed.standing.value,
        "generation": signed.generation,
        "policy": signed.policy_digest,
        "key": signed.key,
    }
    with signing_with.records.transaction() as record:
        record.log(LOG_KIND, signed.host, body, signed.proven_at)
    return signed


def _is_logged(records: Records, certificate: Certificate) -> bool:
    wanted, after = signing.digest(certificate), 0
    with records.reading() as record:
        while page := record.log_entries(after, subject=certificate.host):
            for entry in page:
                if entry.kind == LOG_KIND and loads(entry.body).get("certificate") == wanted:
                    return True
            after = page[-1].number
    return False


def _told(answer: Counterexample) -> dict[str, Json]:
    packet = answer.packet
    return {
        "theorem": answer.theorem,
        "says": answer.says,
        "set": answer.set_name,
        "key": answer.key.hex(),
        "expected": answer.expected,
        "found": answer.found,
        "frame": packet.frame.hex() if packet else "",
        "from": packet.input_name if packet else "",
        "to": packet.output_name if packet else "",
        "kernel_passes": answer.kernel_passes,
        "policy_passes": answer.policy_passes,
    }


def _read(path: Path) -> Certificate:
    try:
        with path.open("rb") as file:
            untrusted = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: there is no such file") from error
    except PermissionError as error:
        raise DeniedError(f"{path}: {error.strerror}") from error
    except OSError as error:
        raise OperationError(f"{path}: {error.strerror}") from error
    if len(untrusted) > MAX_FILE_BYTES:
        raise InputError(f"{path}: more than {MAX_FILE_BYTES} bytes; a certificate is smaller")
    try:
        found = loads(untrusted)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a certificate, which is one JSON object") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise InputError(f"{path}: not a certificate: {SCHEMA} is expected as its schema")
    certificate = decode(Certificate, found.get("certificate"), f"{path}: certificate")
    if certificate.proven_at.tzinfo is None:
        raise InputError(f"{path}: its time has no zone")
    return certificate
