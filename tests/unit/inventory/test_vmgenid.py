"""What is said of a kernel's driver for `<genid/>`, and of which kernels nothing is."""

import pytest

from undercroft.inventory.vmgenid import has_driver


@pytest.mark.parametrize(
    ("release", "has"),
    [
        ("5.10.0-28-amd64", False),
        ("5.10.0-28-cloud-amd64", False),
        ("6.1.0-28-amd64", True),
        ("6.1.0-28-cloud-amd64", False),
        ("6.12.43+deb13-amd64", None),
        ("6.12.43+deb13-cloud-amd64", True),
        ("6.5.0-0.deb12.4-amd64", None),
        ("6.1.0-28-arm64", None),
        ("6.1.0-my-own", None),
        ("", None),
        ("6" * 10_000, None),
    ],
)
def test_debians_kernels_are_told_apart_and_of_others_nothing_is_said(release: str, has: bool | None) -> None:
    assert has_driver("debian", release) is has
    assert has_driver("ubuntu", release) is None
