"""What the table of filesystems promises of each reader."""

import pytest

from undercroft.disks.formats import FILESYSTEMS, Format, open_filesystem
from undercroft.disks.magics import Content
from undercroft.disks.source import BytesSource
from undercroft.errors import InputError
from undercroft.inventory.collect import CHECKERS


@pytest.mark.parametrize("form", [each for each in FILESYSTEMS if each.module], ids=lambda form: form.kind)
@pytest.mark.parametrize("content", [b"\xa5" * 300_000, bytes(300_000)], ids=["noise", "zeros"])
def test_errors_begin_with_the_word_that_reports_group_damage_by(form: Format, content: bytes) -> None:
    with pytest.raises(InputError) as raised:
        open_filesystem(Content(form.kind), BytesSource(content))
    word = str(raised.value).split()[0].removesuffix(":")
    assert word == form.kind or "needs pytsk3" in str(raised.value)
    assert form.kind in CHECKERS
