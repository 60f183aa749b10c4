"""The repositories that dnf or yum of a guest has enabled, as a list.

Follows dnf.conf(5): each section of /etc/yum.repos.d/*.repo but `main` is a repository, enabled unless it
says `enabled=0`. An image of Red Hat's that was built from content sets names them in content manifests
instead (`buildinfo/content_manifests/*.json`, member `content_sets`). Which of them each installed package
came from is in dnf's history, which is not read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError
from undercroft.inventory.languages.finding import MAX_METADATA_BYTES, Candidate, Finder, loads
from undercroft.model.inventory import Package

MANAGER = "repository"
FOLDERS = (b"/etc/yum.repos.d", b"/etc/distro.repos.d")
MANIFESTS = (b"/root/buildinfo/content_manifests", b"/usr/share/buildinfo")
MAX_REPOSITORIES = 10_000
"""Of all files together: a subscribed machine's redhat.repo has some hundreds."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,254}")
_SECTION = re.compile(r"\[([^\[\]]{1,255})\]")
_OFF = frozenset({"0", "no", "false", "off"})


@dataclass(slots=True)
class _Count:
    """How many repositories were named so far, in all files."""

    named: int = 0

    def add(self, more: int) -> None:
        """Count some more. Raises InputError past the limit: a small file names many."""
        if self.named + more > MAX_REPOSITORIES:
            raise InputError(f"repository: more than {MAX_REPOSITORIES} repositories in all files")
        self.named += more


def find(finder: Finder) -> Iterator[Candidate]:
    """Yield the files that name repositories. Raises LimitReached."""
    count = _Count()
    for folder in FOLDERS:
        for name in finder.names(folder):
            if name.endswith(b".repo"):
                path = folder + b"/" + name
                yield Candidate(path, partial(_configured, path, count), is_parsed=True)
    for folder in MANIFESTS:
        for name in finder.names(folder):
            if name.endswith(b".json"):
                path = folder + b"/" + name
                yield Candidate(path, partial(_manifest, path, count), is_parsed=True)


def _configured(path: bytes, count: _Count, tree: GuestTree) -> list[Package]:
    """Return the enabled repositories of one file."""
    enabled: dict[str, bool] = {}
    section = ""
    for line in text(tree.read(path, MAX_METADATA_BYTES)).splitlines():
        if match := _SECTION.match(line):
            section = match[1]
            if section not in enabled:
                count.add(1)
                enabled[section] = True
        key, equals, value = line.partition("=")
        if section and equals and key.strip() == "enabled":
            enabled[section] = value.strip().lower() not in _OFF
    return [_repository(name, "enabled") for name, is_on in enabled.items() if is_on and name != "main"]


def _manifest(path: bytes, count: _Count, tree: GuestTree) -> list[Package]:
    """Return the content sets of one manifest."""
    try:
        manifest = loads(tree.read(path, MAX_METADATA_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError("repository: the content manifest is no JSON") from error
    sets = manifest.get("content_sets", []) if isinstance(manifest, dict) else None
    if not isinstance(sets, list):
        raise InputError("repository: the content manifest has no list of content sets")
    count.add(len(sets))
    return [_repository(name, "content set") for name in sets]


def _repository(untrusted_name: object, what: str) -> Package:
    if not isinstance(untrusted_name, str) or not _NAME.fullmatch(untrusted_name):
        raise InputError(f"repository: {ascii(untrusted_name)[:80]} is no repository's name")
    return Package(MANAGER, untrusted_name, what, "", untrusted_name, what)
