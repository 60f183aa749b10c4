"""What an overlay's options name is read as overlayfs reads it; what cannot be read is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.disks.fstab import parse_fstab
from undercroft.disks.overlay import parse_options
from undercroft.disks.overlay.options import MAX_LAYERS
from undercroft.errors import InputError, UnsupportedError


def options_of(line: bytes) -> tuple[str, ...]:
    return parse_fstab(b"overlay /opt overlay " + line + b"\n").entries[0].options


@pytest.mark.parametrize(
    ("options", "folders"),
    [
        (b"lowerdir=/a,upperdir=/u,workdir=/w", (b"/u", b"/a")),
        (b"ro,lowerdir=/a:/b:/c", (b"/a", b"/b", b"/c")),
        (rb"lowerdir=/a\\:b:/c\\\\,upperdir=/u\\,v", (b"/u,v", b"/a:b", b"/c\\")),
        (rb"lowerdir=/with\040space:/b\\134,x-systemd.requires=/a", (b"/with space", b"/b134")),
        (b"lowerdir+=/a:b,lowerdir+=/c", (b"/a:b", b"/c")),
    ],
)
def test_folders_come_from_the_uppermost_down(options: bytes, folders: tuple[bytes, ...]) -> None:
    # fstab's own escapes are undone first: it needs two backslashes for one.
    assert parse_options(options_of(options.replace(rb"\\", rb"\134"))).folders == folders


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("upperdir=/u,workdir=/w", InputError),
        ("lowerdir=a", InputError),
        ("lowerdir=/a:" + ":".join(["/b"] * MAX_LAYERS), InputError),
        ("lowerdir=/a::/data", UnsupportedError),
        ("lowerdir=/a,datadir+=/data", UnsupportedError),
    ],
)
def test_what_cannot_be_made_is_an_error(options: str, error: type[InputError]) -> None:
    with pytest.raises(error):
        parse_options(options.split(","))


def test_the_namespace_of_its_attributes_is_the_mounts() -> None:
    assert parse_options(["lowerdir=/a"]).prefix == b"trusted.overlay."
    assert parse_options(["lowerdir=/a", "userxattr"]).prefix == b"user.overlay."
    assert not parse_options(["lowerdir=/a", "redirect_dir=nofollow"]).follows_redirects


@given(st.lists(st.text("alowerdi=:/\\,+u"), max_size=6))
def test_any_options_give_folders_or_an_error(options: list[str]) -> None:
    try:
        found = parse_options(["lowerdir=/" + option for option in options])
    except InputError:
        return
    assert 0 < len(found.folders) <= MAX_LAYERS
