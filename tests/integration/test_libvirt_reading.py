"""A running machine under a real libvirtd: its answers are proven over NBD, never taken from its files."""

from collections.abc import Iterator

import libvirthost
import pytest
from libvirthost import NAME, Host

from undercroft.usecases.domaintarget import domain_target
from undercroft.usecases.fleet.reading.layers import CachedAnswer, How, LayerReader
from undercroft.usecases.session import start_reader

MISSING = libvirthost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
    pytest.mark.xdist_group("libvirt-reading"),
]


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with libvirthost.running() as running:
        yield running


@pytest.fixture(scope="module")
def layers() -> Iterator[LayerReader]:
    reader = start_reader()
    yield LayerReader(reader)
    reader.close()


def test_one_moment_of_a_running_machine_proves_the_answer_that_was_read_of_it(
    host: Host, layers: LayerReader
) -> None:
    with host.hypervisor() as hypervisor:
        machine = hypervisor.find(NAME)
        with hypervisor.point_in_time(machine) as still:
            target = domain_target(machine.name, machine.disks, still)
            first = layers.read(target, "current")
            cached = CachedAnswer("first", first.files, first.inputs, first.reads)
            second = layers.read(target, "current", cached)
    assert (first.how, second.how) == (How.READ, How.PROVEN)
    assert first.fingerprint == second.fingerprint is not None
    assert first.inventory is not None
    assert first.inventory.coverage.volumes[0].content.startswith("ext")


def test_the_files_of_a_running_machine_never_prove_its_current_state(
    host: Host, layers: LayerReader
) -> None:
    with host.hypervisor() as hypervisor:
        machine = hypervisor.find(NAME)
        with hypervisor.point_in_time(machine) as still:
            reading = layers.read(domain_target(machine.name, machine.disks, still), "current")
        stopped = layers.read(domain_target(machine.name, machine.disks), "current")
    tops = [str(host.chain[0]), str(host.direct)]
    assert [each.path for each in reading.files[: len(tops)]] == tops
    assert not any(each.proves for each in reading.files[: len(tops)])
    assert reading.inputs == ""
    # Control: whoever reads the bare files is told that they lag behind.
    assert any("a running machine has it open for writing" in problem for problem in stopped.problems)
