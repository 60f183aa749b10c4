r"""What a Windows registry says of the system.

Version and build stand in SOFTWARE\Microsoft\Windows NT\CurrentVersion, updates in Component Based Servicing
(each package with its state; 0x70 is installed), programs in the Uninstall keys of both views.
"""

import re
from collections.abc import Callable, Iterator

from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory.database import Database, Problems, by_name
from undercroft.inventory.windows.hive import Hive, Key
from undercroft.model.inventory import OsRelease, Package

CONFIG = b"/Windows/System32/config"
SOFTWARE = CONFIG + b"/SOFTWARE"
SYSTEM = CONFIG + b"/SYSTEM"

CURRENT_VERSION = r"Microsoft\Windows NT\CurrentVersion"
PACKAGES = r"Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
UNINSTALL = (
    (r"Microsoft\Windows\CurrentVersion\Uninstall", ""),
    (r"WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall", "x86"),
)
INSTALLED = 0x70
FIRST_WINDOWS_11 = 22000
MAX_TEXT_CHARS = 256
MAX_PACKAGES = 50_000
"""Of each place. A server that was updated for ten years has 40,000 in its component store."""

_UPDATE = re.compile(
    r"Package(?:_\d+)?_for_(?P<name>[A-Za-z]+[A-Za-z0-9_]*)~[0-9a-f]+~(?P<arch>[a-z0-9]*)~[^~]*~(?P<version>[0-9.]+)"
)

_Values = dict[str, int | str | bytes]


def read_release(tree: GuestTree) -> OsRelease | None:
    """Return the version of the Windows in `tree`, None where there is none.

    Raises:
        InputError: the hive is malformed, or says no build.
    """
    try:
        hive = Hive(tree, SOFTWARE)
    except NotFoundError:
        return None
    key = hive.key(CURRENT_VERSION)
    values = hive.values(key) if key else {}
    build = _text(values, "currentbuild") or _text(values, "currentbuildnumber")
    if not build.isdecimal() or len(build) > 9:
        raise InputError(f"{text(SOFTWARE)}: hive: {CURRENT_VERSION} says no build")
    major, minor = values.get("currentmajorversionnumber"), values.get("currentminorversionnumber")
    kernel = f"{major}.{minor}" if isinstance(major, int) and isinstance(minor, int) else ""
    kernel = kernel or _text(values, "currentversion")
    revision = values.get("ubr")
    version = f"{kernel}.{build}" + (f".{revision}" if isinstance(revision, int) else "")
    name = _text(values, "productname") or "Windows"
    if int(build) >= FIRST_WINDOWS_11 and _text(values, "installationtype") == "Client":
        name = name.replace("Windows 10", "Windows 11")  # the registry's name stayed behind
    edition = _text(values, "displayversion") or _text(values, "releaseid")
    return OsRelease("windows", version, edition, name, text(SOFTWARE))


def read_hostname(tree: GuestTree) -> str:
    """Return the computer's name, "" where there is none. Raises InputError where the hive is malformed."""
    try:
        hive = Hive(tree, SYSTEM)
    except NotFoundError:
        return ""
    select = hive.key("Select")
    number = hive.values(select).get("current") if select else None
    if not isinstance(number, int) or not 0 < number < 1000:
        return ""
    key = hive.key(rf"ControlSet{number:03}\Control\ComputerName\ComputerName")
    return _text(hive.values(key), "computername") if key else ""


def read_database(tree: GuestTree) -> Database:
    """Return the updates and programs of the Windows in `tree`. Unreadable keys become problems."""
    problems = Problems("windows")
    packages: list[Package] = []
    try:
        hive = Hive(tree, SOFTWARE)
    except NotFoundError:
        return Database()
    except InputError as error:
        return Database(True, (), (f"{text(SOFTWARE)} could not be read: {error}",))
    for problem in hive.problems:
        problems.add(f"{text(SOFTWARE)}: {problem}")
    for path, read in _places():
        try:
            key = hive.key(path)
            if key is not None:
                packages += read(hive, key, problems)
        except InputError as error:
            problems.add(f"{text(SOFTWARE)} {path} could not be read: {error}")
    return Database(True, by_name(packages), problems.shown())


def _places() -> Iterator[tuple[str, Callable[[Hive, Key, Problems], list[Package]]]]:
    yield PACKAGES, _updates
    for path, architecture in UNINSTALL:
        yield path, lambda hive, key, problems, view=architecture: _programs(hive, key, problems, view)  # type: ignore[misc] # bound at once


def _updates(hive: Hive, key: Key, problems: Problems) -> list[Package]:
    """Return the updates below Component Based Servicing; its other packages are parts of Windows."""
    found: list[Package] = []
    for below in hive.subkeys(key):
        match = _UPDATE.fullmatch(below.name)
        if match is None:
            continue
        state = _read(hive, below, problems).get("currentstate")
        if not isinstance(state, int):
            problems.add(f"{text(SOFTWARE)} {below.name[:200]}: no state is recorded")
        elif state == INSTALLED:
            _check_count(found)
            name, version = match["name"], match["version"]
            found.append(Package("kb", name, version, match["arch"], name, version))
    return found


def _programs(hive: Hive, key: Key, problems: Problems, architecture: str) -> list[Package]:
    found: list[Package] = []
    for below in hive.subkeys(key):
        values = _read(hive, below, problems)
        name, version = _text(values, "displayname"), _text(values, "displayversion")
        if name and not _text(values, "parentkeyname"):  # with a parent it is an update of that program
            _check_count(found)
            vendor = _text(values, "publisher")
            found.append(Package("msi", name, version, architecture, name, version, origin=vendor))
    return found


def _check_count(found: list[Package]) -> None:
    """Raise InputError where there are as many as a place may hold: keys may share their values' cells."""
    if len(found) >= MAX_PACKAGES:
        raise InputError(f"hive: more than {MAX_PACKAGES} updates or programs")


def _read(hive: Hive, key: Key, problems: Problems) -> _Values:
    try:
        return hive.values(key)
    except InputError as error:
        problems.add(f"{text(SOFTWARE)} {key.name[:200]!r} could not be read: {error}")
        return {}


def _text(values: _Values, name: str) -> str:
    found = values.get(name)
    return found.strip()[:MAX_TEXT_CHARS] if isinstance(found, str) else ""
