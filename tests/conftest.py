"""What all tests share: folders of support modules and fakes, and the optional checkout-only data."""

import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "support"))
sys.path.insert(0, str(Path(__file__).parent / "fakes"))

# make soak: property tests with twenty times the examples.
settings.register_profile("soak", max_examples=2000, deadline=None)

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real advisories and machines that a developer's checkout has beside it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the advisory and machine data that only developers' checkouts have")
    return SHARED_DATA
