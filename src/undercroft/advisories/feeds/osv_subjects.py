"""Which packages a distribution means by the name in an OSV record.

| ecosystem | the name is that of |
|---|---|
| Debian, Ubuntu, Alpine | a source package |
| AlmaLinux, Red Hat | a binary package |
| Rocky Linux | a source package, which may also be a binary one; those of its SIGs are builds of their own |
| PyPI, npm, Go, RubyGems, crates.io | a package of that language |
| SUSE, openSUSE | a source package; binaries stand in `ecosystem_specific`, with versions of their own |

A package of a module (rpm) has ".module" in its release. The record names the module and its stream in its
summary only ("Moderate: nodejs:18 security update"); where it does not, any module's package is meant.
"""

import re
from collections.abc import Iterator, Mapping

from undercroft.advisories.families import is_language, language_subject
from undercroft.advisories.feeds import fields
from undercroft.advisories.records import ANY_STREAM, subject_name
from undercroft.model.schema import Json

MAX_BINARIES = 100_000

_MODULE_MARK = ".module"
_SIG = re.compile(r"[?&]distro=rocky-linux-[0-9]{1,2}-sig-")
_MODULE = re.compile(r"(?<![\w.+:-])[A-Za-z0-9][\w.+-]{0,60}:[A-Za-z0-9][\w.+-]{0,60}(?![\w:])")
_BINARY_NAMES = ("alma:", "rhel:")
_BOTH_NAMES = ("rocky:",)
_SUSE = ("sles:", "opensuse-leap:", "opensuse-tumbleweed")


def modules_in(summary: str) -> tuple[str, ...]:
    """Return the modules with streams that an erratum's summary names, untrusted."""
    return tuple(dict.fromkeys(_MODULE.findall(summary)))


def subjects(
    affected: Mapping[str, Json], release: str, fixed_version: str, summary: str, place: str
) -> Iterator[tuple[str, str]]:
    """Yield (subject's name, fixed version) of what one statement is about. Raises InputError.

    Args:
        affected: OSV's object.
        release: release key of its ecosystem.
        fixed_version: of the statement, "" for none.
        summary: the record's, untrusted.
        place: for messages.
    """
    package = fields.as_object(affected.get("package"), place)
    if is_language(release):
        named = fields.language_package(package.get("name"), f"{place}: package")
        yield language_subject(release, named), fixed_version
        return
    name = fields.package(package.get("name"), f"{place}: package")
    if release.startswith(_SUSE):
        yield from _suse_subjects(affected, name, fixed_version, place)
        return
    if _SIG.search(fields.as_text(package.get("purl"), f"{place}: purl")):
        return  # the cloud kernel's "4.18.0-425.10.1.el8_7.cloud" says nothing of everybody's kernel
    modules: tuple[str, ...] = ("",)
    if _MODULE_MARK in fixed_version:
        modules = modules_in(summary) or (ANY_STREAM,)
    for module in modules:
        if release.startswith((*_BINARY_NAMES, *_BOTH_NAMES)):
            yield subject_name(name, binary=True, module=module), fixed_version
        if not release.startswith(_BINARY_NAMES):
            yield subject_name(name, module=module), fixed_version


def _suse_subjects(
    affected: Mapping[str, Json], name: str, fixed_version: str, place: str
) -> Iterator[tuple[str, str]]:
    specific = fields.as_object(affected.get("ecosystem_specific") or {}, f"{place}: ecosystem_specific")
    binaries = {
        fields.package(binary, place): fields.version(version, place)
        for entry in fields.as_objects(specific.get("binaries"), f"{place}: binaries")
        for binary, version in entry.items()
    }
    for binary, version in binaries.items():
        yield subject_name(binary, binary=True), version if fixed_version else ""
    yield subject_name(name), fixed_version  # for binaries of it that the record leaves out
