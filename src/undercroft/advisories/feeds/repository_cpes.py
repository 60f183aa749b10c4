"""Red Hat's mapping of repositories to products: `repository-to-cpe.json`.

Follows Red Hat's "Technical Guidance for Vulnerability Scanning Vendors" (security-data-guidelines):
{"data": {"rhel-9-for-x86_64-baseos-eus-rpms": {"cpes": ["cpe:/o:redhat:rhel_eus:9.2::baseos", ...]}}}. Kept
are the extended streams of each repository, as statements about the repository ("repository:rhel-9-..."):
its `stream`, and the minor release in `introduced_version` as builds name it ("el9_2"). That a repository
is of a release's own products says nothing that is needed, and other products are not read. It has no date
of its own.
"""

from collections.abc import Iterator, Mapping

from undercroft.advisories.feeds import ages, fields
from undercroft.advisories.feeds.bounded import load_json, read_all
from undercroft.advisories.feeds.csaf_products import minor_of, release_of
from undercroft.advisories.feeds.feed import Feed, FeedInput
from undercroft.advisories.feeds.headers import undated
from undercroft.advisories.records import Advisory, Status
from undercroft.advisories.streams import repository_subject
from undercroft.errors import InputError
from undercroft.model.schema import Json

NAME = "redhat-repositories"
MAX_BYTES = 64 << 20
"""The mapping has some 5 MB."""


def is_mapping(seen: Mapping[str, object]) -> bool:
    """Tell whether the first members of a JSON object are those of the mapping."""
    data = seen.get("data")
    first = next(iter(data.values()), None) if isinstance(data, dict) else None
    return isinstance(first, dict) and "cpes" in first


def parse(source: FeedInput) -> Feed:
    """Return the streams of each repository. Raises InputError."""
    content = fields.as_object(
        load_json(read_all(source.file, MAX_BYTES, source.name), source.name), source.name
    )
    found = list(_streams(fields.as_object(content.get("data"), f"{source.name}: data"), source.name))
    if not found:
        raise InputError(f"{source.name}: names no repository of an extended stream of RHEL")
    header = undated(source, NAME, ages.REPOSITORY_CPES_S, [statement.release for statement in found])
    return Feed(header, iter(found))


def _streams(data: Mapping[str, Json], what: str) -> Iterator[Advisory]:
    for untrusted_name, entry in data.items():
        place = f"{what}: repository {ascii(untrusted_name)[1:81]}"
        name = fields.package(untrusted_name, place)
        cpes = fields.as_texts(fields.as_object(entry, place).get("cpes"), f"{place}: cpes")
        for cpe in dict.fromkeys(cpes):
            release = release_of(cpe)
            minor = minor_of(cpe)
            if release is not None and release[1] and minor:
                yield Advisory(
                    feed=NAME,
                    release=release[0],
                    source=repository_subject(name),
                    vulnerability=cpe[:200],
                    advisory="",
                    status=Status.UNDETERMINED,
                    introduced_version=minor,
                    stream=release[1],
                )
