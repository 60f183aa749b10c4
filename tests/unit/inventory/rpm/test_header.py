"""Headers give packages or say what is wrong with them; no bytes do anything else."""

import json
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memorymachines import tree_of
from rpmdatabases import header_of, ndb_of

from undercroft.errors import InputError
from undercroft.inventory.rpm import read_database
from undercroft.inventory.rpm.header import parse_header
from undercroft.inventory.rpm.read import package_of

NAME, VERSION, RELEASE, EPOCH, VENDOR, ARCH, SOURCE, LABEL = 1000, 1001, 1002, 1003, 1011, 1022, 1044, 5096
INDEXES, BASES, FOLDERS = 1116, 1117, 1118
LEAST = {NAME: "x", VERSION: "1", RELEASE: "2"}


def test_a_real_machines_packages_come_out_of_their_headers(shared_data: Path) -> None:
    machine = json.loads((shared_data / "machines/alma_9.json").read_text())
    sources = {name: one for one in machine["SrcPackages"].values() for name in one["binaryNames"]}
    blobs, expected = [], set()
    for number, one in enumerate(machine["packages"].values(), 1):
        epoch, colon, version = one["version"].rpartition(":")
        if one["name"] == "gpg-pubkey":
            blobs.append((number, header_of({NAME: "gpg-pubkey", VERSION: version, RELEASE: one["release"]})))
            continue
        source = sources[one["name"]]
        file = f"{source['name']}-{source['version'].rpartition(':')[2]}.src.rpm"
        tags = {NAME: one["name"], VERSION: version, RELEASE: one["release"], ARCH: one["arch"], SOURCE: file}
        blobs.append((number, header_of(tags | ({EPOCH: int(epoch)} if colon else {}))))
        expected.add((one["name"], f"{one['version']}-{one['release']}", one["arch"], source["name"]))
    database = read_database(tree_of({"var/lib/rpm/Packages.db": ndb_of(blobs)}))
    assert database.problems == ()
    assert {(one.name, one.version, one.architecture, one.source) for one in database.packages} == expected
    assert len(database.packages) == len(machine["packages"]) - 1 == 589
    for one in database.packages:
        told = sources[one.name]["version"]
        assert one.source_version.rpartition(":")[2] == told.rpartition(":")[2]


@pytest.mark.parametrize(
    ("tags", "version", "source"),
    [
        ({}, "1-2", ("x", "1-2")),
        ({EPOCH: 0}, "1-2", ("x", "1-2")),
        ({EPOCH: 3, SOURCE: "y-1-2.src.rpm"}, "3:1-2", ("y", "3:1-2")),
        ({EPOCH: 3, SOURCE: "y-z-7-8.nosrc.rpm"}, "3:1-2", ("y-z", "7-8")),
        ({SOURCE: "odd"}, "1-2", ("x", "1-2")),
    ],
)
def test_version_and_source_are_put_together_as_rpm_compares_them(
    tags: dict[int, int | str], version: str, source: tuple[str, str]
) -> None:
    package = package_of(parse_header(header_of(LEAST | tags)))
    assert (package.version, (package.source, package.source_version)) == (version, source)


@pytest.mark.parametrize(
    ("blob", "told"),
    [
        (b"", "0 bytes"),
        (struct.pack(">2I", 0, 0), "0 entries"),
        (struct.pack(">2I", 1 << 31, 4), "entries"),
        (header_of(LEAST)[:-1], "3 entries and 6 bytes"),
        (
            header_of({NAME: "x", VERSION: "1"}),
            "with version '1' and release ''",
        ),
        (header_of(LEAST | {EPOCH: "1"}), "tag 1003 is of type 6"),
        (header_of(LEAST | {NAME: 5}), "tag 1000 is of type 4, no text"),
        (
            header_of(LEAST | {BASES: ["a", "b"], INDEXES: [0], FOLDERS: ["/"]}),
            "2 files, 1 places",
        ),
        (header_of(LEAST | {BASES: ["a"], INDEXES: [7], FOLDERS: ["/"]}), "1 files, 1 places, 1 folders"),
        (header_of(LEAST | {273: "0" * 64, 63: "region"}), "its region is of type 6"),
    ],
)
def test_a_malformed_header_is_a_problem_that_names_its_package(blob: bytes, told: str) -> None:
    database = read_database(tree_of({"var/lib/rpm/Packages.db": ndb_of([(7, blob)])}))
    (problem,) = database.problems
    assert problem.startswith("/var/lib/rpm/Packages.db package number 7: rpm header: ")
    assert told in problem


def test_a_text_without_an_end_is_refused() -> None:
    blob = bytearray(header_of({NAME: "x" * 9000}))
    with pytest.raises(InputError, match="has no end"):
        parse_header(bytes(blob)).text(NAME)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_header_or_refused(untrusted: bytes) -> None:
    with suppress(InputError):
        package_of(parse_header(untrusted))


@given(
    at=st.integers(0, 300),
    damage=st.binary(min_size=1, max_size=8),
    tags=st.just(LEAST | {EPOCH: 1, SOURCE: "y-1-2.src.rpm", BASES: ["a"], INDEXES: [0], FOLDERS: ["/opt/"]}),
)
def test_a_damaged_header_is_read_or_refused(at: int, damage: bytes, tags: dict[int, int | str]) -> None:
    blob = header_of(tags)
    at = min(at, len(blob) - len(damage))
    forged = blob[:at] + damage + blob[at + len(damage) :]
    database = read_database(tree_of({"var/lib/rpm/Packages.db": ndb_of([(1, forged)])}))
    assert database.packages or database.problems
