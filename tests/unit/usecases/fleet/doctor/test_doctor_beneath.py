"""What `doctor` says of the guest service, its TPM, and of machines that could never be let out."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from recordvalues import NOW, domain

from undercroft.errors import DeniedError, OperationError
from undercroft.model.domain import Domain, Ownership, Survey
from undercroft.steady.policy import Match, Need, Policy, Rule, Setting
from undercroft.usecases.fleet.doctor.beneath import fresh_randomness, guest_service
from undercroft.usecases.fleet.doctor.checkup import CheckedHost
from undercroft.usecases.fleet.doctor.health import Check, Health

SERVING = {"state": "serving", "problem": "", "tpm": "device:/dev/tpmrm0", "unprotected": "", "guests": 2}
POLICY = Policy()
WITH, WITHOUT = replace(domain(1), channel=True), domain(2)


def host(
    *domains: Domain,
    guests: Callable[[], Mapping[str, object]] | None = lambda: SERVING,
    policy: Policy = POLICY,
) -> CheckedHost:
    survey = Survey("host1", "memory:", NOW, domains)
    found = SimpleNamespace(survey=lambda: survey, policy=lambda: policy, guests=guests)
    return cast("CheckedHost", found)


def failing(error: Exception) -> Callable[[], Any]:
    def asked() -> Any:
        raise error

    return asked


def health(checks: list[Check]) -> list[tuple[str, Health]]:
    return [(check.name, check.health) for check in checks]


def test_a_service_with_a_tpm_is_in_order() -> None:
    found = list(guest_service(host(WITH)))
    assert health(found) == [("guest service", Health.OK), ("TPM", Health.OK)]


@pytest.mark.parametrize(
    ("status", "name", "expected"),
    [
        ({"tpm": "none", "unprotected": "a rollback"}, "TPM", Health.WARN),
        ({"state": "refused", "problem": "the chain does not match"}, "guest service", Health.FAIL),
    ],
)
def test_what_its_vaults_lack_is_told(status: dict[str, object], name: str, expected: Health) -> None:
    found = list(guest_service(host(WITH, guests=lambda: SERVING | status)))[-1]
    assert (found.name, found.health) == (name, expected)
    assert str(status.get("problem") or status.get("unprotected")) in found.found
    assert found.cure


def test_an_absent_service_fails_where_machines_need_it_and_is_told_where_none_does() -> None:
    away = failing(OperationError("the guest service does not run"))
    assert health(list(guest_service(host(WITH, guests=away)))) == [("guest service", Health.FAIL)]
    assert health(list(guest_service(host(WITHOUT, guests=away)))) == [("guest service", Health.WARN)]
    denied = failing(DeniedError("only root may ask"))
    assert health(list(guest_service(host(WITH, guests=denied)))) == [("guest service", Health.UNKNOWN)]


def test_machines_that_have_to_be_fresh_and_have_no_channel_are_named() -> None:
    rule = Rule(Match(names=("*",)), {"reseed": Setting(Need.REQUIRED, "policy.yaml:3")}, "policy.yaml:2")
    policy = Policy(rules=(rule,))
    template = replace(domain(3), ownership=Ownership(template=True))
    (found,) = fresh_randomness(host(WITH, WITHOUT, template, policy=policy))
    assert found.health is Health.FAIL
    assert WITHOUT.name in found.found
    assert WITH.name not in found.found
    assert template.name not in found.found
    (whole,) = fresh_randomness(host(WITH, policy=policy))
    assert whole.health is Health.OK
    assert list(fresh_randomness(host(WITHOUT))) == [], "control: the policy does not mind"
