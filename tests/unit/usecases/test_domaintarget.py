"""A domain as a machine that can be opened."""

from undercroft.model.domain import DiskKind, DomainDisk, DomainSnapshot
from undercroft.usecases.domaintarget import domain_target

DISK = DomainDisk("vda", "disk", DiskKind.FILE, "/images/web01.qcow2", "qcow2", ())


def test_what_libvirt_could_not_tell_of_a_machine_goes_with_it() -> None:
    target = domain_target("web01", [DISK], problem="its snapshot 'old' could not be read")
    assert target.problem == "its snapshot 'old' could not be read"


def test_of_a_domain_libvirt_s_snapshots_alone_are_states() -> None:
    snapshot = DomainSnapshot("old", "", 1, "disk-snapshot", "external", current=True)
    target = domain_target("web01", [DISK], snapshots=[snapshot])
    assert not target.has_checkpoints
    assert target.external == ()  # it names no image that it put on top
