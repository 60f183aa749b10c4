from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from undercroft.assurance.auditheads import public_key, sign_head
from undercroft.assurance.firewall.certificate import Certificate, Standing, Theorem
from undercroft.assurance.firewall.hostfindings import Danger, Finding
from undercroft.assurance.firewall.signing import check_signature, sign
from undercroft.errors import StateError

AT = datetime(2026, 3, 1, tzinfo=UTC)
PLAIN = Certificate("undercroft", 7, "a", "b", "c", 12, (Theorem("rules", "all", 5),), ("so",), ("not",), AT)
WHOLE = replace(PLAIN, looked_around=True)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def with_finding(danger: Danger) -> Certificate:
    return replace(WHOLE, findings=(Finding(danger, "port vnet0", "open", "close it"),))


@pytest.mark.parametrize(
    ("danger", "standing"),
    [
        (Danger.BYPASS, Standing.VOID),
        (Danger.REWRITE, Standing.VOID),
        (Danger.ASSUMPTION, Standing.VOID),
        (Danger.UNKNOWN, Standing.RESERVED),
        (Danger.COPY, Standing.CERTIFIED),
        (Danger.DISTURBANCE, Standing.CERTIFIED),
    ],
)
def test_a_finding_leaves_of_a_certificate_what_its_danger_leaves(danger: Danger, standing: Standing) -> None:
    certificate = with_finding(danger)
    assert certificate.standing is standing
    assert "port vnet0: open\n    -> close it" in certificate.text()
    assert certificate.text().startswith("No certificate") is (standing is Standing.VOID)


def test_a_certificate_of_the_table_alone_says_so_and_is_not_signed() -> None:
    assert PLAIN.standing is Standing.TABLE
    assert PLAIN.text().startswith("Certificate for table undercroft alone")
    for certificate in (PLAIN, with_finding(Danger.BYPASS)):
        with pytest.raises(StateError, match="nothing to sign"):
            sign(KEY, certificate)


def test_a_signature_holds_for_what_was_signed_and_in_any_time_zone_and_for_nothing_else() -> None:
    signed = sign(KEY, with_finding(Danger.UNKNOWN))
    check_signature(signed, public_key(KEY))
    check_signature(replace(signed, proven_at=AT.astimezone()), public_key(KEY))
    for other in (
        replace(signed, findings=()),
        replace(signed, generation=8),
        replace(signed, theorems=()),
        replace(signed, host="another"),
    ):
        with pytest.raises(StateError, match="forged or changed"):
            check_signature(other, public_key(KEY))


def test_a_signature_of_a_head_is_none_of_a_certificate() -> None:
    signed = sign(KEY, WHOLE)
    head = sign_head(KEY, "log", 7, "c", AT)
    with pytest.raises(StateError, match="forged or changed"):
        check_signature(replace(signed, signature=head.signature), public_key(KEY))
