"""Reports as JSON and YAML, in a shape that stays.

Guarantees: `schema` names the shape and its version; within a version members may be added, never
renamed, removed or given another meaning (docs/schema/ holds the JSON Schema). The members are those of
the values of `undercroft.model`, under the same names, and a few that are derived from them (`complete`,
`summary`, `brought_back`).

Every text is escaped as in `escape`: the output is ASCII and safe to print. Where that changed
a text, a member with the suffix `_base64` beside it holds the original bytes; in a list of texts it is
the list of the originals in the same order. Messages of Undercroft itself have none.
"""

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

from undercroft.advisories.asked import knows_exploited, knows_severities, knows_unfixed
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.jsontext import dump
from undercroft.cli.render.states import brought_back
from undercroft.model.diff import StateDiff
from undercroft.model.finding import Assessment, FeedStatus, Finding, FixState, Severity
from undercroft.model.inventory import Inventory
from undercroft.model.job import FileEntry
from undercroft.model.report import ScanReport, StateReport
from undercroft.model.schema import Json, encode
from undercroft.model.verdict import SubjectKind, Verdict
from undercroft.usecases.fleet.views.values import FleetRow, FleetView, MachineView

_MESSAGES = frozenset(
    {
        "problems",
        "problem",
        "notes",
        "warnings",
        "reason",
        "reasons",
        "against",
        "why",
        "alarms",
        "evidence",
    }
)
"""Members that hold Undercroft's own words; what they quote of a guest is made harmless in place."""


class DataFormat(StrEnum):
    """Formats for programs that show everything."""

    JSON = "json"
    YAML = "yaml"


def render_scan(report: ScanReport, data_format: DataFormat | str) -> str:
    """Return the whole report ("undercroft/scan/1")."""
    return _text(scan_document(report), data_format)


def scan_document(report: ScanReport) -> dict[str, Any]:
    """Return the whole report as JSON values; what other reports share with it is the same object there.

    Within one report nothing is, since YAML would show it by an alias.
    """
    shown: set[int] = set()
    document = _object(replace(report, states=tuple(map(_without_shared, report.states))))
    for state, encoded in zip(report.states, document["states"], strict=True):
        if state.inventory is not None:
            encoded["inventory"]["packages"] = _shared(state.inventory.packages, shown)
        if state.assessment is not None:
            encoded["assessment"] = _shared(state.assessment, shown)
        encoded.update(_derived(report, state))
    return {"schema": "undercroft/scan/1", "complete": report.complete, **document}


def render_packages(inventory: Inventory, data_format: DataFormat | str) -> str:
    """Return the inventory of one state ("undercroft/inventory/1")."""
    document = {"complete": inventory.coverage.complete, **_object(inventory)}
    return _text({"schema": "undercroft/inventory/1", **document}, data_format)


def render_diff(diff: StateDiff, data_format: DataFormat | str) -> str:
    """Return what lies between two states ("undercroft/diff/1")."""
    return _text({"schema": "undercroft/diff/1", "complete": diff.complete, **_object(diff)}, data_format)


def render_files(entries: Sequence[FileEntry], data_format: DataFormat | str) -> str:
    """Return a listing of files ("undercroft/files/1")."""
    return _text(
        {"schema": "undercroft/files/1", "files": [_object(entry) for entry in entries]}, data_format
    )


def render_feeds(statuses: Sequence[FeedStatus], data_format: DataFormat | str) -> str:
    """Return the advisories' sources ("undercroft/feeds/1")."""
    return _text(
        {"schema": "undercroft/feeds/1", "feeds": [_object(status) for status in statuses]}, data_format
    )


def render_fleet(view: FleetView, rows: Sequence[FleetRow], data_format: DataFormat | str) -> str:
    """Return the wanted rows of the fleet ("undercroft/fleet/1"); `summary` counts all of them."""
    document: dict[str, Any] = {
        "schema": "undercroft/fleet/1",
        "complete": all(row.complete and row.verdict is not Verdict.UNKNOWN for row in rows),
        "behind": view.behind,
        **_object(replace(view, rows=())),
        "summary": {kind.value: _verdicts(view, kind) for kind in SubjectKind},
        "rows": [_object(row) for row in rows],
    }
    return _text(document, data_format)


def render_machine(view: MachineView, data_format: DataFormat | str) -> str:
    """Return what is on record of one machine ("undercroft/machine/1")."""
    complete = all(state.row.complete for state in view.states) and not view.problems
    return _text({"schema": "undercroft/machine/1", "complete": complete, **_object(view)}, data_format)


def render_value(schema: str, value: object, data_format: DataFormat | str, **derived: Json) -> str:
    """Return one value of the model as a document of `schema`, what is derived from it first."""
    return _text({"schema": schema, **derived, **_object(value)}, data_format)


def render_document(document: dict[str, Json], data_format: DataFormat | str) -> str:
    """Return a document of JSON values that has its `schema` already."""
    return _text(_escaped_members(document), data_format)


def render_values(
    schema: str, name: str, values: Sequence[object], data_format: DataFormat | str, **derived: Json
) -> str:
    """Return values of the model as the member `name` of a document of `schema`."""
    return _text({"schema": schema, **derived, name: [_object(value) for value in values]}, data_format)


def _verdicts(view: FleetView, kind: SubjectKind) -> dict[str, Json]:
    counts = Counter(row.verdict for row in view.rows if row.kind is kind)
    return {verdict.value: counts[verdict] for verdict in Verdict}


def _derived(report: ScanReport, state: StateReport) -> dict[str, Json]:
    """Return what readers would otherwise count themselves; null for what nobody knows."""
    back = brought_back(report, state) if state.ident else None
    return {
        "complete": state.complete,
        "summary": _summary(state, state.assessment) if state.assessment else None,
        "brought_back": None if back is None else _names(back),
    }


def _summary(state: StateReport, assessment: Assessment) -> dict[str, Json]:
    """Return the counts; null in place of 0 where no imported source could have told of any."""
    found = assessment.findings
    severities = Counter(finding.severity for finding in found)
    exploited = sum(finding.known_exploited_on is not None for finding in found)
    rated = knows_severities(assessment.feeds)
    return {
        "findings": len(found),
        "known_exploited": exploited if exploited or knows_exploited(assessment.feeds) else None,
        "fixable": sum(finding.fix is FixState.FIXABLE for finding in found),
        "by_severity": {
            severity.value: severities[severity]
            if rated or severities[severity] or severity is Severity.UNKNOWN
            else None
            for severity in Severity
        },
        "whole": state.complete and knows_unfixed(assessment.feeds),
    }


def _names(found: Sequence[Finding]) -> list[Json]:
    return [
        {"vulnerability": escape(finding.vulnerability), "source": escape(finding.source)}
        for finding in found
    ]


def _without_shared(state: StateReport) -> StateReport:
    """Return a state without the packages and findings, which a thousand clones have in common."""
    inventory = replace(state.inventory, packages=()) if state.inventory else None
    return replace(state, inventory=inventory, assessment=None)


@dataclass(frozen=True, slots=True, eq=False)
class _Same:
    """A value that is equal to itself alone: comparing what it holds costs as much as showing it."""

    value: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _shared(value: object, shown: set[int]) -> Any:
    """Return a value of the model as JSON values, the same object for the same value of another report."""
    if id(value) in shown:
        return _escaped(encode(value), message=False)
    shown.add(id(value))
    return _kept(_Same(value))


@lru_cache(maxsize=16)
def _kept(shared: _Same) -> Any:
    return _escaped(encode(shared.value), message=False)


def _object(value: object) -> dict[str, Any]:
    encoded = encode(value)
    if not isinstance(encoded, dict):
        raise TypeError(f"{type(value).__name__} is no dataclass")
    return _escaped_members(encoded)


def _escaped_members(members: dict[str, Json]) -> dict[str, Any]:
    """Return `members` with all texts escaped and the originals of changed ones beside them."""
    result: dict[str, Any] = {}
    for name, value in members.items():
        message = name in _MESSAGES
        result[name] = shown = _escaped(value, message=message)
        if shown != value and not message and _holds_texts(value):
            result[f"{name}_base64"] = (
                [_base64(item) for item in value] if isinstance(value, list) else _base64(value)
            )
    return result


def _escaped(value: Json, *, message: bool) -> Any:
    if isinstance(value, str):
        return harmless(value) if message else escape(value)
    if isinstance(value, list):
        return [_escaped(item, message=message) for item in value]
    return _escaped_members(value) if isinstance(value, dict) else value


def _holds_texts(value: Json) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    )


def _base64(text: Json) -> str:
    # A surrogate that no byte stands for (PEP 383) can't come from a guest's bytes: keep it as it is.
    try:
        raw = str(text).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = str(text).encode("utf-8", "surrogatepass")
    return base64.b64encode(raw).decode("ascii")


def _text(document: dict[str, Any], data_format: DataFormat | str) -> str:
    if DataFormat(data_format) is DataFormat.JSON:
        return dump(document)
    import yaml  # noqa: PLC0415 - only where YAML is asked for

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(document, Dumper=dumper, sort_keys=False, width=110)
    return text
