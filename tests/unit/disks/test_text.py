"""Bytes of a disk become strings and come back as they were."""

from hypothesis import given
from hypothesis import strategies as st

from undercroft.disks.text import raw, text


@given(st.binary(max_size=50))
def test_no_byte_is_lost(untrusted: bytes) -> None:
    assert raw(text(untrusted)) == untrusted


def test_utf_8_reads_as_itself_and_other_bytes_as_lone_surrogates() -> None:
    assert text("Zürich".encode()) == "Zürich"
    assert text(b"caf\xe9") == "caf\udce9"
