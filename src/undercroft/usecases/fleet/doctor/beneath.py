"""What `doctor` looks at beneath the guests: the guest service, its TPM, and who could never be let out."""

from collections.abc import Iterable, Sequence

from undercroft.errors import DeniedError, OperationError
from undercroft.model.domain import Domain
from undercroft.usecases.fleet.doctor.checkup import CheckedHost, Look
from undercroft.usecases.fleet.doctor.health import Check, Health
from undercroft.usecases.fleet.starts.reseed import is_required

_MAX_NAMES = 8
_START = "systemctl enable --now undercroft-guest.socket; or undercroft up, which starts it where no unit is"


def guest_service(host: CheckedHost) -> Iterable[Check]:
    """Look whether the guest service answers and serves, and what its vaults rest on."""
    if host.guests is None:
        return
    having = [domain for domain in host.survey().domains if domain.channel]
    try:
        status = host.guests()
    except DeniedError as error:
        yield Check("guest service", Health.UNKNOWN, str(error), "sudo undercroft doctor")
        return
    except OperationError as error:
        if having:
            found = f"{_counted(having)} a channel, and nobody answers at it: {error}"
            yield Check("guest service", Health.FAIL, found, _START)
        else:
            found = (
                "it does not run, and no machine has a channel: no guest gets fresh randomness after a resume"
            )
            yield Check("guest service", Health.WARN, found, f"undercroft channel enable NAME; {_START}")
        return
    if status.get("state") != "serving":
        found = f"it serves no guest: {status.get('problem', '')}"
        yield Check(
            "guest service", Health.FAIL, found, "undercroft vault verify; undercroft vault adopt --reason"
        )
        return
    yield Check("guest service", Health.OK, f"it serves {status.get('guests', 0)} guests")
    yield _tpm(str(status.get("tpm", "none")), str(status.get("unprotected", "")))


def _tpm(name: str, unprotected: str) -> Check:
    if name == "none":
        told = unprotected or "earlier states of the host's disk are not told from the present one"
        cure = "a TPM 2.0, as /dev/tpmrm0 that the service's user may open: docs/VAULT.md"
        return Check("TPM", Health.WARN, f"the vaults have none: {told}", cure)
    return Check("TPM", Health.OK, f"the vaults rest on {name}")


def fresh_randomness(host: CheckedHost) -> Iterable[Check]:
    """Look for machines whose ports wait for a guest that has no way to confirm anything."""
    survey, policy = host.survey(), host.policy()
    wanting = [domain for domain in survey.domains if is_required(policy, domain, survey.host)]
    wanting = [domain for domain in wanting if not domain.ownership.template]
    without = [domain for domain in wanting if not domain.channel]
    if without:
        found = f"the policy says reseed: required, and without a channel they never open: {_named(without)}"
        yield Check("fresh randomness", Health.FAIL, found, f"undercroft channel enable {without[0].name}")
    elif wanting:
        count = len(wanting)
        found = f"each of the {count} machines that have to confirm fresh randomness has a channel"
        yield Check("fresh randomness", Health.OK, found, "undercroft channel status")


def _counted(domains: Sequence[Domain]) -> str:
    return f"{len(domains)} machines have" if len(domains) > 1 else f"{domains[0].name} has"


def _named(domains: Sequence[Domain]) -> str:
    names = ", ".join(domain.name for domain in domains[:_MAX_NAMES])
    return f"{names} and {len(domains) - _MAX_NAMES} more" if len(domains) > _MAX_NAMES else names


BENEATH_LOOKS: tuple[tuple[str, Look, str], ...] = (
    ("guest service", guest_service, _START),
    ("fresh randomness", fresh_randomness, ""),
)
