"""Mount units are read as systemd reads them; any bytes give an entry or a reason."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memorymachines import Broken, Link, tree_of

from undercroft.disks.mountunits import UNITS, UnreadUnit, parse_mount_unit, read_mount_units, unit_point
from undercroft.errors import InputError

UNIT = (
    b"[Unit]\nDescription=x\n[Mount]\nWhat=/dev/disk/by-uuid/1234\nWhere=/opt/app/\n"
    b"Type=ext4\nOptions=ro,noatime\n"
)


def test_a_unit_is_an_entry() -> None:
    found = parse_mount_unit(UNIT, "opt-app.mount", automatic=True)
    assert (found.device, found.point) == (b"/dev/disk/by-uuid/1234", b"/opt/app")
    assert (found.fs_type, found.options) == ("ext4", ("ro", "noatime"))


@pytest.mark.parametrize(
    "text", [b"", b"[Mount]\nWhat=x\n", b"[Unit]\nWhat=x\nWhere=/y\n", b"[Mount]\nWhat=%h\nWhere=/y\n"]
)
def test_a_unit_without_a_plain_what_and_where_is_refused(text: bytes) -> None:
    with pytest.raises(InputError, match="needs What= and an absolute Where="):
        parse_mount_unit(text, "x.mount", automatic=True)


def test_units_are_automatic_where_a_target_wants_them() -> None:
    folder = UNITS.decode()[1:]
    tree = tree_of(
        {
            f"{folder}/opt-app.mount": UNIT,
            f"{folder}/local-fs.target.requires/opt-app.mount": Link(b"../opt-app.mount"),
            f"{folder}/srv.mount": UNIT.replace(b"/opt/app", b"/srv"),
            f"{folder}/tmp.mount": Link(b"/dev/null"),
        }
    )
    units = read_mount_units(tree)
    assert [(entry.point, entry.automatic) for entry in units.entries] == [
        (b"/opt/app", True),
        (b"/srv", False),
    ]
    assert (units.unread, units.problems) == ((), ())


def test_a_unit_that_is_not_understood_is_told_with_its_point() -> None:
    tree = tree_of({f"{UNITS.decode()[1:]}/opt-my\\x2dapp.mount": Broken()})
    (unread,) = read_mount_units(tree).unread
    assert isinstance(unread, UnreadUnit)
    assert unread.point == b"/opt/my-app"


def test_a_name_is_unescaped_to_its_point() -> None:
    assert unit_point(b"-.mount") == b"/"
    assert unit_point(b"var-lib-docker.mount") == b"/var/lib/docker"


@given(st.binary(max_size=300))
def test_any_unit_gives_an_entry_or_input_error(untrusted: bytes) -> None:
    with suppress(InputError):
        parse_mount_unit(b"[Mount]\nWhat=a\nWhere=/b\n" + untrusted, "x.mount", automatic=True)
