"""The volumes of storage pools, and the files in their folders that no pool knows.

Nothing is refreshed: that writes libvirt's state, and reads every image anew. What was put into a folder
behind libvirt's back is found by listing the folder. No image is opened here.
"""

import os
import stat
from collections.abc import Container

from undercroft.adapters.libvirt import machine_xml
from undercroft.adapters.libvirt.bindings import Connection, Libvirt, Pool, code, message
from undercroft.adapters.libvirt.connections import raise_when_dead
from undercroft.errors import InputError
from undercroft.model.domain import PoolVolume

MAX_FILES = 100_000
"""In one pool's folder; one with more is listed so far, and told."""

_FOLDER_POOLS = frozenset({"dir", "fs", "netfs"})
_NETWORK_POOLS = frozenset({"rbd", "gluster", "sheepdog", "iscsi-direct"})


def list_volumes(libvirt: Libvirt, connection: Connection) -> tuple[tuple[PoolVolume, ...], tuple[str, ...]]:
    """Return (volumes of all active pools, sorted by path; what could not be listed).

    Raises libvirtError only where the connection died.
    """
    volumes: dict[str, PoolVolume] = {}
    problems: list[str] = []
    try:
        asleep = connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE)
        inactive = {pool.name() for pool in asleep}
        pools = connection.listAllStoragePools()
    except libvirt.libvirtError as error:
        raise_when_dead(libvirt, connection, error)
        return (), (f"storage pools: {message(error)}; unread, is virtstoraged running?",)
    for pool in pools:
        name = pool.name()
        if name in inactive:
            problems.append(f"storage pool {name!r}: not active, unread; virsh pool-start {name!r}")
            continue
        try:
            found, told = _list_pool(libvirt, connection, pool)
        except (libvirt.libvirtError, InputError) as error:
            raise_when_dead(libvirt, connection, error)
            if code(error) != libvirt.VIR_ERR_NO_STORAGE_POOL:
                problems.append(f"storage pool {name!r}: {message(error)}")
            continue
        problems += [f"storage pool {name!r}: {problem}" for problem in told]
        for volume in found:
            volumes.setdefault(volume.path, volume)
    return tuple(volumes[path] for path in sorted(volumes)), tuple(problems)


def _list_pool(libvirt: Libvirt, connection: Connection, pool: Pool) -> tuple[list[PoolVolume], list[str]]:
    definition = machine_xml.parse_pool(pool.XMLDesc())
    if definition.kind in _NETWORK_POOLS:
        return [], [f"on the network ({definition.kind}), unread"]
    volumes: dict[str, PoolVolume] = {}
    problems: list[str] = []
    for volume in pool.listAllVolumes():
        try:
            found = machine_xml.parse_volume(volume.XMLDesc(), definition.name)
        except (libvirt.libvirtError, InputError, UnicodeDecodeError) as error:
            raise_when_dead(libvirt, connection, error)
            if code(error) != libvirt.VIR_ERR_NO_STORAGE_VOL:
                problems.append(f"a volume: {message(error)}")
            continue
        if found is not None:
            volumes[found.path] = found
    if definition.kind in _FOLDER_POOLS and definition.path:
        unknown, told = _unknown_files(definition, volumes)
        return [*volumes.values(), *unknown], problems + told
    return list(volumes.values()), problems


def _unknown_files(
    pool: machine_xml.PoolDefinition, known: Container[str]
) -> tuple[list[PoolVolume], list[str]]:
    """Return the regular files in a pool's folder that are not `known`, and what could not be listed."""
    found: list[PoolVolume] = []
    problems: list[str] = []
    try:
        with os.scandir(pool.path) as entries:
            for number, entry in enumerate(entries):
                if number == MAX_FILES:
                    problems.append(f"{pool.path}: more than {MAX_FILES} files; the rest is unread")
                    break
                if entry.path in known:
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # images come and go
                    continue
                if not stat.S_ISREG(status.st_mode):
                    continue
                if not _is_text(entry.name):
                    problems.append(f"{pool.path}: the name {os.fsencode(entry.name)!r} is not UTF-8; unread")
                    continue
                found.append(PoolVolume(pool.name, entry.name, entry.path, "", status.st_size))
    except OSError as error:
        problems.append(f"{pool.path}: {error.strerror}; its files are unread")
    return found, problems


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
