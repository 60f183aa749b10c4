"""A machine, an advisory database and the installed program, as a user has them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from machineimages import DebPackage, debian_tree, make_machine, packages
from program import Run, run_program

OPENSSL_OLD = DebPackage("libssl3", "3.0.11-1~deb12u2", "openssl")
OPENSSL_NEW = DebPackage("libssl3", "3.0.15-1~deb12u1", "openssl")

TRACKER = {
    "openssl": {
        "CVE-2024-0001": {
            "description": "a hole that is exploited",
            "releases": {
                "bookworm": {"status": "resolved", "fixed_version": "3.0.15-1~deb12u1", "urgency": "high"}
            },
        },
        "CVE-2024-0002": {
            "releases": {"bookworm": {"status": "open", "urgency": "not yet assigned"}},
        },
        "CVE-2024-0003": {
            "releases": {"bookworm": {"status": "resolved", "fixed_version": "0", "urgency": "high"}},
        },
    }
}
TODAY = datetime.now(UTC).date().isoformat()
KEV = {
    "title": "CISA Catalog of Known Exploited Vulnerabilities",
    "catalogVersion": TODAY.replace("-", "."),
    "dateReleased": f"{TODAY}T00:00:00.0000Z",
    "count": 1,
    "vulnerabilities": [
        {
            "cveID": "CVE-2024-0001",
            "vendorProject": "OpenSSL",
            "product": "OpenSSL",
            "vulnerabilityName": "x",
            "dateAdded": "2024-05-01",
            "shortDescription": "x",
            "requiredAction": "x",
            "dueDate": "2024-06-01",
            "knownRansomwareCampaignUse": "Unknown",
            "notes": "",
        }
    ],
}


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine that was upgraded after its snapshot "before-upgrade"."""
    folder = tmp_path_factory.mktemp("machine")
    old = debian_tree(folder / "old", [*packages(20), OPENSSL_OLD])
    new = debian_tree(folder / "new", [*packages(20), OPENSSL_NEW], {"etc/motd": b"upgraded\n"})
    return make_machine(folder / "web01.qcow2", [("before-upgrade", old), ("now", new)])


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An advisory database with a tracker and KEV, imported by the program itself."""
    folder = tmp_path_factory.mktemp("advisories")
    (folder / "tracker.json").write_text(json.dumps(TRACKER))
    (folder / "kev.json").write_text(json.dumps(KEV))
    database = folder / "db" / "advisories.db"
    done = run_program(database, "feeds", "import", str(folder / "tracker.json"), str(folder / "kev.json"))
    assert done.returncode == 0, done.stderr + done.stdout
    return database


@pytest.fixture
def run(database: Path) -> Run:
    """Run the installed program with that database; returns the finished process."""
    return lambda *arguments, **options: run_program(database, *arguments, **options)
