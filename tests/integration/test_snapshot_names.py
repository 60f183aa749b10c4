"""Names of snapshots that mean one state to QEMU and another one to whoever reads the table."""

from pathlib import Path

import pytest
from diskimages import run

from undercroft.errors import InputError
from undercroft.model.disk import Snapshot
from undercroft.usecases.states import select_state, states_of


def fill(image: Path, byte: str) -> None:
    run("qemu-io", "-c", f"write -P {byte} 0 512", image)


def test_qemu_reverts_to_the_id_where_a_snapshot_has_anothers_id_for_its_name(tmp_path: Path) -> None:
    image = tmp_path / "web01.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "1M")
    for byte, name in (("0x11", "unpatched"), ("0x22", "1")):
        fill(image, byte)
        run("qemu-img", "snapshot", "-c", name, image)
    fill(image, "0x33")
    run("qemu-img", "snapshot", "-a", "1", image)
    run(
        "qemu-io", "-r", "-c", "read -P 0x11 0 512", image
    )  # the snapshot with the ID 1, not the one called "1"

    states = states_of([("vda", [Snapshot("1", "unpatched", 1, 0, 0), Snapshot("2", "1", 2, 0, 0)])])
    with pytest.raises(InputError, match="for which QEMU takes it"):
        select_state(states, "1", "web01")
