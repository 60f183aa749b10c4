"""The log as it is read live: one harmless line for each entry."""

import json
from typing import Any

import fleetdata
import pytest
import reports
from fleetdata import NOW
from memoryrecords import MemoryRecords

from undercroft.assurance.auditlog import NO_DIGEST, make_entry
from undercroft.cli.render.escape import cell_width
from undercroft.cli.render.terminal import Terminal
from undercroft.cli.render.watch import is_heartbeat, json_line, render_day, render_entry
from undercroft.model.audit import AuditEntry
from undercroft.model.schema import Json


def entry(kind: str, **body: Json) -> AuditEntry:
    return make_entry(1, NO_DIGEST, kind, "web01", body, NOW)


def line(kind: str, width: int | None = None, **body: Json) -> str:
    return render_entry(entry(kind, **body), "web01", Terminal(width)).removesuffix("\n")


def filled() -> list[tuple[AuditEntry, str]]:
    records = MemoryRecords()
    fleetdata.fill(records)
    names = {domain.uuid: domain.name for domain in fleetdata.SURVEY.domains}
    with records.reading() as record:
        return [
            (found, names.get(found.subject, found.subject))
            for found in record.log_entries()
            if found.kind != "verdict"
        ]


AT_80 = """\
11:48:00  db01                net closed   below its patch floor
11:59:55  app01               net pending  how it started is not known yet
12:00:00  web01               began        a1a1a1a1 as first
12:00:00  web01               ended        a1a1a1a1 stopped
12:00:00  web01               began        a2a2a2a2 as start of a1a1a1a1; its d…
12:00:00  db01                began        e1e1e1e1 as first
11:48:00  db01                ended        e1e1e1e1 superseded
11:48:00  db01                began        e3e3e3e3 as revert of e1e1e1e1, not …
12:00:00  gw01                began        9a9a9a9a as start
11:30:00  gw01                began        9b9b9b9b as fork of 9a9a9a9a
12:00:00  web01               allow        steady
11:48:00  db01                quarantine   below its patch floor; its network w…
09:00:00  old-archive         refuse       it expired on 2025-05-01
11:59:40  host1               agent        alive
"""

AT_140 = """\
11:48:00  db01                net closed   below its patch floor
11:59:55  app01               net pending  how it started is not known yet
12:00:00  web01               began        a1a1a1a1 as first
12:00:00  web01               ended        a1a1a1a1 stopped
12:00:00  web01               began        a2a2a2a2 as start of a1a1a1a1; its disks are as execution a1a1a1a1 left them
12:00:00  db01                began        e1e1e1e1 as first
11:48:00  db01                ended        e1e1e1e1 superseded
11:48:00  db01                began        e3e3e3e3 as revert of e1e1e1e1, not certain; libvirt said from-snapshot
12:00:00  gw01                began        9a9a9a9a as start
11:30:00  gw01                began        9b9b9b9b as fork of 9a9a9a9a
12:00:00  web01               allow        steady
11:48:00  db01                quarantine   below its patch floor; its network waits until it is seen how it began
09:00:00  old-archive         refuse       it expired on 2025-05-01
11:59:40  host1               agent        alive
"""  # noqa: E501


@pytest.mark.parametrize(("width", "expected"), [(80, AT_80), (140, AT_140)])
def test_what_happened_to_the_fleet(width: int, expected: str) -> None:
    assert "".join(render_entry(found, name, Terminal(width)) for found, name in filled()) == expected


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("decision", {"action": "refuse", "reason": "too old", "by": "agent"}, "refuse       too old"),
        ("decision", {"action": "allow", "reason": "x", "by": "hook"}, "allow        x (by hook)"),
        (
            "verdict",
            {"verdict": "drifting", "action": "refuse", "why": "w", "before": ["steady", "allow"]},
            "drifting     w; was steady; a start would meet refuse",
        ),
        ("execution", {"refused": True, "reason": "no network"}, "refused      its start: no network"),
        ("execution", {"pending": "restore"}, "announced    a restore is about to begin"),
        (
            "execution",
            {"eid": "a1" * 16, "changed": {"origin": "fork", "certain": False}},
            "concluded    a1a1a1a1: certain False, origin fork",
        ),
        ("hold", {"held": True, "pending": False, "reason": "r"}, "net closed   r"),
        ("hold", {"held": False, "reason": "above its floor"}, "net open     above its floor"),
        ("alarm", {"alarm": "fork", "reason": "two share RAM"}, "ALARM        two share RAM"),
        (
            "revert",
            {"snapshot": "s1", "outcome": "reverted", "by": "alice", "overrides": True, "reason": "lab"},
            "revert       to s1, reverted, by alice, against the policy: lab",
        ),
        ("mend", {"name": "web01", "what": "genid", "by": "alice"}, "mend         by alice, what genid"),
        ("agent", {"agent": "lost", "reason": "no socket"}, "agent        lost: no socket"),
        ("policy", {"digest": "5e" * 32, "problem": ""}, "policy       5e5e5e5e holds now"),
        (
            "policy",
            {"digest": "5e" * 32, "problem": "line 3\nline 4"},
            "policy       not taken over, the last good one holds: line 3; line 4",
        ),
        (
            "restart",
            {"by": "alice", "reason": "disk broke", "last": {"number": 5}, "archive": "heads-1.jsonl"},
            "RESTART      the log's signing began anew, by alice: disk broke;"
            " the last head before is of entry 5",
        ),
        ("news", {}, "news"),
    ],
)
def test_each_kind_says_what_happened(kind: str, body: dict[str, Any], said: str) -> None:
    assert line(kind, **body) == f"12:00:00  web01               {said}"


@pytest.mark.parametrize("kind", ["decision", "verdict", "execution", "hold", "alarm", "release", "policy"])
def test_a_body_of_any_shape_is_one_harmless_line(kind: str) -> None:
    names = ("action", "verdict", "why", "reason", "eid", "origin", "by", "outcome", "snapshot", "evidence")
    bodies: list[dict[str, Json]] = [
        {},
        dict.fromkeys(names, reports.EVIL),
        {name: [reports.EVIL] for name in names},
        dict.fromkeys(names) | {"changed": {reports.EVIL: reports.EVIL}, "before": 3},
    ]
    for body in bodies:
        for width in (None, 80):
            text = render_entry(entry(kind, **body), reports.EVIL, Terminal(width))
            assert text.count("\n") == 1
            assert text.removesuffix("\n").isprintable()
            assert width is None or cell_width(text.removesuffix("\n")) <= width


def test_a_line_of_json_is_ascii_and_lets_the_digest_be_checked() -> None:
    found = entry("decision", reason=reports.EVIL)
    text = json_line(found, reports.EVIL)
    assert text.isascii()
    assert text.removesuffix("\n").isprintable()
    document = json.loads(text)
    assert document["body"] == json.loads(found.body)
    assert (document["number"], document["digest"], document["name"]) == (1, found.digest, reports.EVIL)


def test_a_body_that_is_no_object_is_shown_all_the_same() -> None:
    broken = AuditEntry(1, NOW, "policy", "web01", "[1]", NO_DIGEST, NO_DIGEST)
    assert "[1]" in render_entry(broken, "web01", Terminal(None))
    assert json.loads(json_line(broken, "web01"))["body"] == {"text": "[1]"}


def test_only_a_heartbeat_is_one() -> None:
    assert is_heartbeat(entry("agent", agent="alive"))
    assert not is_heartbeat(entry("agent", agent="started"))
    assert not is_heartbeat(entry("alarm", agent="alive"))


def test_a_new_day_has_a_line() -> None:
    assert render_day(entry("agent"), Terminal(80)) == "2025-06-01\n"
