"""Sets of volumes become devices, are looked at again, and end: whatever their metadata says."""

import struct
from dataclasses import replace

import pytest
from memorymachines import MemoryFileSystem, disk_of, uuid_of

from undercroft.disks import stack
from undercroft.disks.detect import Content, open_filesystem, raid_at_end
from undercroft.disks.devices import find_volumes, parse_device
from undercroft.disks.filesystem import FileSystem
from undercroft.disks.formats import Level
from undercroft.disks.machine import open_machine
from undercroft.disks.opening import open_volumes
from undercroft.disks.source import BlockSource, BytesSource, SliceSource
from undercroft.disks.stack import Assembly, Device, Member, Request, VolumeSet
from undercroft.disks.volumes import DiskSet
from undercroft.errors import InputError
from undercroft.model.disk import VolumeStatus

LABEL = 512
HEAD_BYTES = 4096


class Toy:
    """A set whose members say in their UUID which device they are part of: "name:count"."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rank: int = 0, *, by_member: bool = False) -> None:
        self.asked: list[bool] = []
        self.rank, self.by_member = rank, by_member
        entry = VolumeSet(("lvm2",), "toy", Level.WHOLE, "toys", "toy")
        monkeypatch.setattr(stack, "SETS", (entry,))
        monkeypatch.setattr(stack, "assembler", lambda _: self.assemble)

    def assemble(self, members: tuple[Member, ...], request: Request) -> Assembly:
        self.asked.append(request.last)
        done = Assembly()
        groups: dict[str, list[Member]] = {}
        for member in members:
            groups.setdefault(member.source.read(LABEL + 64, 32).rstrip(b"\0").decode(), []).append(member)
        for group, found in groups.items():
            name, _, count = group.partition(":")
            if name == "bad":
                raise InputError("toy: broken")
            if name == "left":
                done.left += found
                continue
            if len(found) < int(count):
                if not request.last:
                    continue
                done.problems.append(f"{name} lacks a member")
            inner = SliceSource(found[0].source, HEAD_BYTES, found[0].source.size_bytes - HEAD_BYTES, name)
            done.parts.update(dict.fromkeys(found, name))
            paths = (f"/dev/toy/{name}", f"/dev/disk/by-id/toy-{name}")
            device = Device(f"toy/{name}", paths, tuple(found), inner.size_bytes, inner)
            device = replace(device, rank=self.rank, by_member=self.by_member)
            done.devices.append(device)
        return done


def toy(group: str, inner: BlockSource) -> BytesSource:
    head = bytearray(HEAD_BYTES)
    head[LABEL : LABEL + 8] = b"LABELONE"
    head[LABEL + 24 : LABEL + 32] = b"LVM2 001"
    head[LABEL + 64 : LABEL + 64 + len(group)] = group.encode()
    return BytesSource(bytes(head) + inner.read(0, inner.size_bytes))


def root(fstab: str = "", number: int = 1) -> MemoryFileSystem:
    return MemoryFileSystem(
        {"etc/os-release": b"ID=debian\n", "etc/fstab": fstab.encode(), "var/": b""}, uuid=uuid_of(number)
    )


def opener(*filesystems: MemoryFileSystem):  # type: ignore[no-untyped-def] # a closure of one line
    by_uuid = {each.uuid: each for each in filesystems}

    def opened(content: Content, source: BlockSource) -> FileSystem:
        return by_uuid.get(content.uuid) or open_filesystem(content, source)

    return opened


def look(*disks: BlockSource, filesystems: tuple[MemoryFileSystem, ...] = ()) -> DiskSet:
    named = [(f"vd{chr(ord('a') + number)}", disk) for number, disk in enumerate(disks)]
    return open_volumes(named, opener(*filesystems))


def test_a_device_is_a_volume_and_its_members_are_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Toy(monkeypatch)
    inside = root()
    found = look(toy("x:1", disk_of(inside)), filesystems=(inside,))
    member, device = (volume.describe() for volume in found.volumes)
    assert (member.name, member.status, member.reason) == ("vda", VolumeStatus.NOT_APPLICABLE, "part of x")
    assert (device.name, device.status, device.members) == ("toy/x", VolumeStatus.READ, ("vda",))


def test_a_set_waits_for_members_that_come_out_of_other_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    Toy(monkeypatch)
    inside = root()
    nested = toy("outer:1", toy("x:2", disk_of(inside)))
    found = look(nested, toy("x:2", BytesSource(bytes(65536))), filesystems=(inside,))
    assert [volume.name for volume in found.volumes] == ["vda", "vdb", "toy/outer", "toy/x"]
    assert found.volumes[3].members == ("vdb", "toy/outer")
    assert found.problems == ()


def test_a_set_that_lacks_a_member_is_made_at_last_and_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Toy(monkeypatch).asked
    inside = root()
    found = look(toy("x:2", disk_of(inside)), filesystems=(inside,))
    assert found.problems == ("x lacks a member",)
    assert found.volumes[1].filesystem is inside
    assert asked == [False, True]


def test_devices_within_devices_end_at_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    Toy(monkeypatch)
    disk: BlockSource = BytesSource(bytes(65536))
    for number in range(stack.MAX_DEPTH + 3):
        disk = toy(f"d{number}:1", disk)
    found = look(disk)
    assert len(found.volumes) == stack.MAX_DEPTH + 1
    assert "more than 8 deep" in found.volumes[-1].reason


def test_a_broken_set_is_the_reason_of_its_members_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    Toy(monkeypatch)
    found = look(toy("bad:1", BytesSource(bytes(65536))))
    assert [volume.reason for volume in found.volumes] == ["toy: broken"]


def test_a_member_that_no_set_takes_is_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    Toy(monkeypatch)
    monkeypatch.setattr(stack, "assembler", lambda _: lambda *_: Assembly())
    (volume,) = look(toy("x:1", BytesSource(bytes(65536)))).volumes
    assert volume.describe().status is VolumeStatus.UNREAD


def test_a_member_that_is_left_is_opened_as_its_content_says(monkeypatch: pytest.MonkeyPatch) -> None:
    Toy(monkeypatch)
    (volume,) = look(toy("left:1", BytesSource(bytes(65536)))).volumes
    assert volume.reason == "lvm2 is not supported yet"


def test_two_devices_of_one_name_are_a_problem_and_the_second_is_unread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Toy(monkeypatch)
    inside = root()
    nested = toy("outer:1", toy("x:1", disk_of(root("", 2))))
    found = look(nested, toy("x:1", disk_of(inside)), filesystems=(inside,))
    assert found.problems == ("toy/x: another set has a device of the same name",)
    assert [volume.filesystem for volume in found.volumes if volume.disk == "toy/x"] == [inside, None]


def test_more_devices_than_the_limit_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    Toy(monkeypatch)
    monkeypatch.setattr(stack, "MAX_DEVICES", 3)
    found = look(*(toy(f"d{number}:1", BytesSource(bytes(65536))) for number in range(5)))
    assert len(found.volumes) == 3
    assert "more than 3 volumes" in found.problems[0]


@pytest.mark.parametrize("name", ["/dev/toy/x", "/dev/disk/by-id/toy-x", f"UUID={uuid_of(1)}"])
def test_an_fstab_names_a_sets_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Toy(monkeypatch)
    inside, var = root(f"{name} / ext4\nUUID={uuid_of(2)} /var ext4\n"), root("", 2)
    disks = [("vda", toy("x:1", disk_of(inside))), ("vdb", toy("y:1", disk_of(var)))]
    machine = open_machine(disks, opener(inside, var))
    assert machine.coverage.problems == ()
    assert [volume.mounts for volume in machine.coverage.volumes] == [(), (), ("/",), ("/var",)]


def test_a_sets_device_is_not_taken_for_a_disk_by_its_position(monkeypatch: pytest.MonkeyPatch) -> None:
    Toy(monkeypatch)
    inside = root()
    volumes = look(toy("x:1", disk_of(inside)), filesystems=(inside,)).volumes
    assert [each.name for each in find_volumes(parse_device(b"/dev/sda"), volumes)] == ["vda"]
    by_id = find_volumes(parse_device(b"/dev/disk/by-id/virtio-serial"), volumes)
    assert [each.name for each in by_id] == ["vda"]


def test_a_snapshot_stands_behind_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    Toy(monkeypatch, rank=1)
    inside = root()
    volumes = look(disk_of(inside), toy("x:1", disk_of(inside)), filesystems=(inside,)).volumes
    name = parse_device(f"UUID={inside.uuid}".encode())
    assert [each.name for each in find_volumes(name, volumes)] == ["vda"]
    assert [each.name for each in find_volumes(name, volumes[1:])] == ["toy/x"]


def test_a_set_that_any_member_names_is_meant_by_each(monkeypatch: pytest.MonkeyPatch) -> None:
    Toy(monkeypatch, by_member=True)
    inside = root()
    volumes = look(toy("x:2", disk_of(inside)), toy("x:2", disk_of(inside)), filesystems=(inside,)).volumes
    assert [each.name for each in find_volumes(parse_device(b"/dev/vdb"), volumes)] == ["toy/x"]


def test_a_set_that_lacks_a_member_makes_the_machines_answer_incomplete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Toy(monkeypatch)
    inside = root(f"UUID={uuid_of(1)} / ext4\n")
    machine = open_machine([("vda", toy("x:2", disk_of(inside)))], opener(inside))
    assert machine.tree is not None
    assert machine.coverage.problems == ("x lacks a member",)


class TornSource:
    """A disk whose last bytes cannot be read, as in an image with a damaged cluster."""

    def __init__(self, data: bytes, torn_bytes: int) -> None:
        self.size_bytes = len(data)
        self._data, self._end = data, len(data) - torn_bytes

    def read(self, offset: int, length: int) -> bytes:
        if offset + length > self._end:
            raise InputError(f"torn at {self._end}")
        return self._data[offset : offset + length]


@pytest.mark.parametrize("start", [0, 64])
def test_a_disk_whose_end_cannot_be_read_is_read_but_for_that(start: int) -> None:
    inside = root(f"UUID={uuid_of(1)} / ext4\n")
    data = bytearray(bytes(start * 512) + disk_of(inside, 1 << 20).read(0, 1 << 20))
    if start:  # with a partition that ends before the damage
        data[446:462] = struct.pack("<8BII", 0, 0, 0, 0, 0x83, 0, 0, 0, start, 1024)
        data[510:512] = b"\x55\xaa"
    torn = TornSource(bytes(data), 70 << 10)
    with pytest.raises(InputError):
        raid_at_end(torn)
    machine = open_machine([("vda", torn)], opener(inside))
    assert machine.tree is not None
    assert machine.coverage.problems == ()
    assert any("torn at" in note for note in machine.coverage.notes) is not bool(start)
