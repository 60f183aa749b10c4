"""The fleet as an administrator sees it: whole outputs, so that every change of them is seen."""

from dataclasses import replace

import fleetdata
import pytest
import reports
from fleetdata import NOW
from memoryrecords import MemoryRecords

from undercroft.cli.render.escape import cell_width
from undercroft.cli.render.fleet import render_fleet
from undercroft.cli.render.terminal import Terminal
from undercroft.model.verdict import SubjectKind, Verdict
from undercroft.usecases.fleet.views.fleet import fleet_view
from undercroft.usecases.fleet.views.values import FleetRow, FleetView


@pytest.fixture(scope="module")
def view() -> FleetView:
    records = MemoryRecords()
    fleetdata.fill(records)
    with records.reading() as record:
        return fleet_view(record, NOW)


AT_80 = """\
12 machines: 1 quarantined, 2 unknown, 3 drifting, 6 steady
6 snapshots: 1 unknown, 4 drifting, 1 steady; 2 templates: 1 drifting, 1 steady;
1 image of no machine: 1 unknown
surveyed 2025-06-01 11:59, 1 min ago; agent heard just now

  MACHINE               VERDICT      SINCE    WHY
! gw01                  steady       90 days  ALARM: gw01 lives twice: on host1…
  db01                  quarantined  12 min   40 findings that this machine had…
    └ 1 snapshot: clean would bring back 40 findings
  mail01                unknown      2 days   not all that may hold software wa…
  new01                 unknown      -        not read yet
  web01                 drifting     3 days   CVE-2023-4911 in glibc is known t…
    └ 3 snapshots: installed would bring back 40 findings
  evil\\u001B…]\\\\\\u000A  drifting     3 days   its machine id is also that of ev…
    └ 1 snapshot: nothing would come back
  old-archive           drifting     31 days  it expired on 2025-05-01
  app01                 steady       4 days
    └ 1 snapshot: what would come back is not known
  build-7f3a            steady       0 min    CVE-2024-0101 in curl has a fix s…
  ci-runner-…-has-room  steady       5 h
  web02                 steady       21 days
  db02                  steady       60 days

  TEMPLATE              VERDICT      SINCE    WHY
  …images/golden.qcow2  drifting     17 days  1 finding of severity high or wor…
  golden-debian12       steady       4 days

  IMAGE OF NO MACHINE   VERDICT      SINCE    WHY
  …ges/forgotten.qcow2  unknown      3 days   not all that may hold software wa…
"""

AT_140 = """\
12 machines: 1 quarantined, 2 unknown, 3 drifting, 6 steady
6 snapshots: 1 unknown, 4 drifting, 1 steady; 2 templates: 1 drifting, 1 steady; 1 image of no machine: 1 unknown
surveyed 2025-06-01 11:59, 1 min ago; agent heard just now

  MACHINE                  VERDICT      SINCE    POWER    NETWORK  START       OWNER         EXPIRES     WHY
! gw01                     steady       90 days  running  open     allow       network       -           ALARM: gw01 lives twice: on host1 …
  db01                     quarantined  12 min   running  closed   quarantine  dba           -           40 findings that this machine had …
    └ 1 snapshot: clean would bring back 40 findings
  mail01                   unknown      2 days   running  open     quarantine  web team      -           not all that may hold software was…
  new01                    unknown      -        off      -        -           -             -           not read yet
  web01                    drifting     3 days   running  open     quarantine  web team      -           CVE-2023-4911 in glibc is known to…
    └ 3 snapshots: installed would bring back 40 findings
  evil\\u001B[…ld]\\\\\\u000A  drifting     3 days   off      -        refuse      evil\\u…u000A  -           its machine id is also that of evi…
    └ 1 snapshot: nothing would come back
  old-archive              drifting     31 days  off      -        refuse      web team      2025-05-01  it expired on 2025-05-01
  app01                    steady       4 days   running  pending  allow       apps          -
    └ 1 snapshot: what would come back is not known
  build-7f3a               steady       0 min    running  open     allow       -             -           CVE-2024-0101 in curl has a fix si…
  ci-runner-w…mn-has-room  steady       5 h      paused   open     allow       build team    -
  web02                    steady       21 days  running  open     allow       web team      2025-12-31
  db02                     steady       60 days  off      -        allow       dba           -

  TEMPLATE                 VERDICT      SINCE    POWER    NETWORK  START       OWNER         EXPIRES     WHY
  …rt/images/golden.qcow2  drifting     17 days  -        -        refuse      -             -           1 finding of severity high or wors…
  golden-debian12          steady       4 days   off      -        allow       build team    -

  IMAGE OF NO MACHINE      VERDICT      SINCE    POWER    NETWORK  START       OWNER         EXPIRES     WHY
  …images/forgotten.qcow2  unknown      3 days   -        -        refuse      -             -           not all that may hold software was…
"""  # noqa: E501

SNAPSHOTS_IN_ASCII = """\
12 machines: 1 quarantined, 2 unknown, 3 drifting, 6 steady
6 snapshots: 1 unknown, 4 drifting, 1 steady; 2 templates: 1 drifting, 1 steady;
1 image of no machine: 1 unknown
surveyed 2025-06-01 11:59, 1 min ago; agent heard just now

  MACHINE               VERDICT      SINCE    WHY
! gw01                  steady       90 days  ALARM: gw01 lives twice: on hos...
  db01                  quarantined  12 min   40 findings that this machine h...
    @clean              drifting     3 days   would bring back 40 findings; 4...
  mail01                unknown      2 days   not all that may hold software ...
  new01                 unknown      -        not read yet
  web01                 drifting     3 days   CVE-2023-4911 in glibc is known...
    @installed          drifting     3 days   would bring back 40 findings; 4...
    @before-upgrade     drifting     3 days   CVE-2023-4911 in glibc is known...
    @nightly            drifting     3 days   CVE-2023-4911 in glibc is known...
  evil\\u001...\\\\\\u000A  drifting     3 days   its machine id is also that of ...
    @evil\\u...\\\\\\u000A  steady       3 days
  old-archive           drifting     31 days  it expired on 2025-05-01
  app01                 steady       4 days
    @warm               unknown      -        not read yet
  build-7f3a            steady       0 min    CVE-2024-0101 in curl has a fix...
  ci-runner...has-room  steady       5 h
  web02                 steady       21 days
  db02                  steady       60 days

  TEMPLATE              VERDICT      SINCE    WHY
  ...ages/golden.qcow2  drifting     17 days  1 finding of severity high or w...
  golden-debian12       steady       4 days

  IMAGE OF NO MACHINE   VERDICT      SINCE    WHY
  ...s/forgotten.qcow2  unknown      3 days   not all that may hold software ...
"""


def test_the_fleet_at_80_columns(view: FleetView) -> None:
    assert render_fleet(view, view.rows, Terminal(80)) == AT_80


def test_the_fleet_at_140_columns(view: FleetView) -> None:
    assert render_fleet(view, view.rows, Terminal(140)) == AT_140


def test_every_snapshot_in_a_row_of_its_own_in_ascii(view: FleetView) -> None:
    text = render_fleet(view, view.rows, Terminal(80, unicode=False), snapshots=True)
    assert text == SNAPSHOTS_IN_ASCII
    assert text.isascii()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 140, 200])
@pytest.mark.parametrize("snapshots", [False, True])
def test_no_row_is_wider_than_the_terminal(view: FleetView, width: int, snapshots: bool) -> None:
    lines = render_fleet(view, view.rows, Terminal(width), snapshots=snapshots).splitlines()
    below_headline = lines[lines.index("") + 1 :]
    if width >= 60:
        assert all(cell_width(line) <= width for line in lines)
    assert sum(line.startswith("  web0") for line in below_headline) == 2


def test_a_pipe_gets_every_column_and_whole_texts_on_one_line_each(view: FleetView) -> None:
    lines = render_fleet(view, view.rows, Terminal(None)).splitlines()
    heading = next(line for line in lines if "MACHINE" in line)
    assert heading.split() == [
        "MACHINE",
        "VERDICT",
        "SINCE",
        "POWER",
        "NETWORK",
        "START",
        "OWNER",
        "EXPIRES",
        "READ",
        "WHY",
    ]
    (row,) = [line for line in lines if "mail01" in line]
    assert row.endswith("vda2 was not read: LUKS volume; it holds the root file system")
    assert any(fleetdata.RUNNER.name in line for line in lines)


def test_hosts_are_named_where_there_are_several(view: FleetView) -> None:
    several = replace(view, hosts=("host1", "host2"))
    assert "HOST" in render_fleet(several, view.rows, Terminal(None))
    assert "HOST" not in render_fleet(view, view.rows, Terminal(None))


def test_what_a_guest_or_an_administrator_wrote_stays_harmless(view: FleetView) -> None:
    for terminal in (Terminal(80), Terminal(None), Terminal(140, color=True)):
        text = render_fleet(view, view.rows, terminal, snapshots=True)
        assert reports.EVIL not in text
        assert "\u202e" not in text
        assert "\x1b[31m\u202e" not in text


def test_colours_only_repeat_what_stands_in_words(view: FleetView) -> None:
    painted = render_fleet(view, view.rows, Terminal(80, color=True))
    assert "\x1b[1;31mquarantined\x1b[0m" in painted
    plain = painted
    for code in ("0", "1", "2", "31", "32", "33", "36", "1;31", "1;97;41"):
        plain = plain.replace(f"\x1b[{code}m", "")
    assert plain == render_fleet(view, view.rows, Terminal(80))


def test_the_numbers_at_the_top_are_the_whole_fleets_whatever_is_shown(view: FleetView) -> None:
    text = render_fleet(view, [row for row in view.rows if row.verdict is Verdict.QUARANTINED], Terminal(80))
    assert text.startswith("12 machines: 1 quarantined, 2 unknown, 3 drifting, 6 steady\n")
    assert f"1 of {len(view.rows)} match" in text


def test_nothing_that_matches_is_said(view: FleetView) -> None:
    text = render_fleet(view, (), Terminal(80))
    assert f"0 of {len(view.rows)} match" in text
    assert "VERDICT" not in text


def test_an_empty_record_says_so() -> None:
    with MemoryRecords().reading() as record:
        empty = fleet_view(record, NOW)
    assert render_fleet(empty, (), Terminal(80)) == (
        "no machine on record\n"
        "surveyed never; agent heard never\n"
        "warning: the record may be behind: nobody has written it lately; is `undercroft\n"
        "up` running?\n"
    )


def test_snapshots_whose_machine_is_not_shown_stand_by_themselves(view: FleetView) -> None:
    rows = [row for row in view.rows if row.kind is SubjectKind.SNAPSHOT]
    lines = render_fleet(view, rows, Terminal(80)).splitlines()
    assert any(line.lstrip().startswith("SNAPSHOT ") for line in lines)
    assert sum("web01@" in line for line in lines) == 3


def snapshots(view: FleetView, *brought_back: int | None, complete: bool = True) -> list[FleetRow]:
    machine = next(row for row in view.rows if row.name == "web02")
    one = next(row for row in view.rows if row.name == "web01@nightly")
    below = [
        replace(one, machine=machine.machine, state=f"s{number}", brought_back=count, complete=complete)
        for number, count in enumerate(brought_back)
    ]
    return [machine, *below]


@pytest.mark.parametrize(
    ("brought_back", "sentence"),
    [
        ((0, 0), "2 snapshots: nothing would come back"),
        ((0, 1), "2 snapshots: s1 would bring back 1 finding"),
        ((3, 0, 7), "3 snapshots: 2 would bring back up to 7 findings"),
        ((3, None), "2 snapshots: s0 would bring back 3 findings; 1 not known"),
        ((0, None), "2 snapshots: 1 not known"),
        ((None,), "1 snapshot: what would come back is not known"),
    ],
)
def test_one_line_says_what_a_machines_snapshots_would_bring_back(
    view: FleetView, brought_back: tuple[int | None, ...], sentence: str
) -> None:
    assert f"└ {sentence}\n" in render_fleet(view, snapshots(view, *brought_back), Terminal(80))


def test_what_was_not_read_whole_may_bring_back_more(view: FleetView) -> None:
    text = render_fleet(view, snapshots(view, 3, complete=False), Terminal(80))
    assert "s0 would bring back at least 3 findings" in text


def test_an_agent_that_stopped_is_told_with_a_warning(view: FleetView) -> None:
    text = render_fleet(replace(view, agent_stopped=True), view.rows, Terminal(140))
    assert "agent stopped just now" in text
    assert "warning: the record may be behind" in text
