"""One machine as an administrator sees it: whole outputs, so that every change of them is seen."""

from collections.abc import Callable
from dataclasses import replace

import fleetdata
import pytest
import reports
from fleetdata import NOW
from memoryrecords import MemoryRecords

from undercroft.cli.render.escape import cell_width
from undercroft.cli.render.machine import render_machine
from undercroft.cli.render.terminal import Terminal
from undercroft.model.domain import DomainCheckpoint, Survey
from undercroft.usecases.fleet.views.machine import machine_view
from undercroft.usecases.fleet.views.values import MachineView

View = Callable[[str], MachineView]


@pytest.fixture(scope="module")
def view() -> View:
    records = MemoryRecords()
    fleetdata.fill(records)

    def viewed(name: str) -> MachineView:
        with records.reading() as record:
            return machine_view(record, name, NOW)

    return viewed


AT_80 = """\
web01  running on host1; owner web team; labels prod
drifting for 3 days; a start would meet: quarantine; network open
  fail     known-exploited: CVE-2023-4911 in glibc is known to be exploited and
      fixed in 2.36-9+deb12u3  (policy.yaml:4)
  fail     fixable: 1 finding of severity high or worse has a fix for longer
      than 7 days: CVE-2024-0101 in curl  (policy.yaml:4)
  1 rule passed; -v lists all

STATE           VERDICT   START       KEV  CRIT  HIGH  MED  ALL  BACK  SECRETS
current         drifting  quarantine    1     0     2    0    3     -        1
installed       drifting  refuse        1     1     2   38   42    40        1
before-upgrade  drifting  quarantine    1     0     1    0    2     0        1
nightly         drifting  quarantine    1     0     2    0    3     0        1
3 snapshots: installed would bring back 40 findings

FINDINGS  3 in the current state
  WORST  SOURCE   INSTALLED       FIXED IN        VULNERABILITIES
  high   glibc    2.36-9+deb12u1  2.36-9+deb12u3  CVE-2023-4911
  high   curl     1.0-1           1.0-2           CVE-2024-0101
  low    openssl  1.0-1           no fix yet      CVE-2023-5678

EXECUTIONS  latest first
  EXECUTION  BEGAN             AS     ENDED                     HOST
  a2a2a2a2   2025-05-23 12:00  start  lives                     host1
  a1a1a1a1   2025-04-21 12:00  first  2025-05-23 12:00 stopped  host1

DECISIONS  latest first
  AT                ANSWER  BY     REASON
  2025-05-23 12:00  allow   agent  steady

MACHINE
  system      Debian GNU/Linux 12 (bookworm)
  last read   2 h ago
  vda         /var/lib/libvirt/images/disk1.qcow2 (qcow2) on
              /var/lib/libvirt/images/debian-12-base.qcow2
  interface   52:54:00:00:00:01 network default vnet1: open
  randomness  no channel; <genid/>, driver
  exposed     installed, before-upgrade, nightly: each resume of one draws the
              same random numbers
  ways in     1 account with a shell, 1 authorized key, 1 host key, 1
              certificate, 1 file with secrets
  patch floor 1 package
  definition  persistent, autostart, genid
  UUID        00000001-0000-4000-8000-000000000001
  on record   since 2025-06-01 11:59, last surveyed 2025-06-01 11:59

WHAT HELPS
  its verdict, rule by rule
      undercroft policy explain web01
"""

VERBOSE_AT_140 = """\
web01  running on host1; owner web team; labels prod
drifting for 3 days; a start would meet: quarantine; network open
  fail     known-exploited: CVE-2023-4911 in glibc is known to be exploited and fixed in 2.36-9+deb12u3  (policy.yaml:4)
  fail     fixable: 1 finding of severity high or worse has a fix for longer than 7 days: CVE-2024-0101 in curl  (policy.yaml:4)
  pass     floor: it has all that the machine had fixed  (default)

STATE           TAKEN             VERDICT   START       KEV  CRIT  HIGH  MED  ALL  BACK  SECRETS
current         -                 drifting  quarantine    1     0     2    0    3     -        1
installed       2025-04-22 12:00  drifting  refuse        1     1     2   38   42    40        1
before-upgrade  2025-05-23 12:00  drifting  quarantine    1     0     1    0    2     0        1
nightly         2025-06-01 00:00  drifting  quarantine    1     0     2    0    3     0        1
3 snapshots: installed would bring back 40 findings

FINDINGS  3 in the current state
  high        CVE-2023-4911     exploited since 2023-11-21  DSA-5514-1, severity by cve:cvss3.1:7.8, EPSS 71.2%, 2023-10-03, fixed since
      2023-10-03
    glibc 2.36-9+deb12u1 → 2.36-9+deb12u3  (libc-bin, libc6, locales)
    dynamic loader: buffer overflow in processing GLIBC_TUNABLES (Looney Tunables)
  high        CVE-2024-0101     DSA-1-1, severity by cve:cvss3.1:5.3
    curl 1.0-1 → 1.0-2  (curl)
  low         CVE-2023-5678     DSA-1-1, severity by debian:urgency
    openssl 1.0-1, no fix yet  (openssl)

EXECUTIONS  latest first
  EXECUTION  BEGAN             AS     ENDED                     HOST
  a2a2a2a2   2025-05-23 12:00  start  lives                     host1
  a1a1a1a1   2025-04-21 12:00  first  2025-05-23 12:00 stopped  host1
  a2a2a2a2: its disks are as execution a1a1a1a1 left them

DECISIONS  latest first
  AT                ANSWER  BY     REASON
  2025-05-23 12:00  allow   agent  steady

MACHINE
  system      Debian GNU/Linux 12 (bookworm)
  last read   2 h ago
  vda         /var/lib/libvirt/images/disk1.qcow2 (qcow2) on /var/lib/libvirt/images/debian-12-base.qcow2
  interface   52:54:00:00:00:01 network default vnet1: open
  randomness  no channel; <genid/>, driver
  exposed     installed, before-upgrade, nightly: each resume of one draws the same random numbers
  ways in     1 account with a shell, 1 authorized key, 1 host key, 1 certificate, 1 file with secrets
  patch floor 1 package
  definition  persistent, autostart, genid
  UUID        00000001-0000-4000-8000-000000000001
  on record   since 2025-06-01 11:59, last surveyed 2025-06-01 11:59

WHAT HELPS
  its verdict, rule by rule
      undercroft policy explain web01
"""  # noqa: E501

QUARANTINED = """\
db01  running on host1; owner dba; labels prod
quarantined for 12 min; a start would meet: quarantine; network closed: below
  its patch floor
  fail     floor: 40 findings that this machine had fixed are back
      (policy.yaml:4)

STATE    VERDICT      START       KEV  CRIT  HIGH  MED  ALL  BACK  SECRETS
current  quarantined  quarantine    0     1     1   38   40     -        1
clean    drifting     quarantine    0     1     1   38   40    40        1
1 snapshot: clean would bring back 40 findings

FINDINGS  40 in the current state
  WORST     SOURCE   INSTALLED  FIXED IN  VULNERABILITIES
  critical  openssl  1.0-1      1.0-2     CVE-2024-0100
  high      curl     1.0-1      1.0-2     CVE-2024-0101
  medium    linux    1.0-1      1.0-2     CVE-2024-0102 +37

EXECUTIONS  latest first
  EXECUTION  BEGAN             AS       ENDED                        HOST
  e3e3e3e3   2025-06-01 11:48  revert?  lives                        host1
  e1e1e1e1   2025-02-20 12:00  first    2025-06-01 11:48 superseded  host1

DECISIONS  latest first
  AT                ANSWER      BY     REASON
  2025-06-01 11:48  quarantine  agent  below its patch floor

MACHINE
  system      Debian GNU/Linux 12 (bookworm)
  last read   11 min ago
  vda         /var/lib/libvirt/images/disk3.qcow2 (qcow2) on
              /var/lib/libvirt/images/debian-12-base.qcow2
  interface   52:54:00:00:00:03 network default vnet3: closed
  randomness  no channel; <genid/>, driver
  exposed     clean: each resume of one draws the same random numbers
  ways in     1 account with a shell, 1 authorized key, 1 host key, 1
              certificate, 1 file with secrets
  patch floor 2 packages
  definition  persistent, genid
  UUID        00000003-0000-4000-8000-000000000003
  on record   since 2025-06-01 11:59, last surveyed 2025-06-01 11:59

WHAT HELPS
  its network is closed
      undercroft release db01 --reason REASON
  its verdict, rule by rule
      undercroft policy explain db01
"""

HOSTILE = """\
evil\\u001B[31m\\u202E\\xFF[bold]\\\\\\u000A  off on host1; owner
  evil\\u001B[31m\\u202E\\xFF[bold]\\\\\\u000A
drifting for 3 days; a start would meet: refuse
  fail     identity: its machine id is also that of
      evil\\u001B[31m\\u202E\\xFF[bold]\\\\u000A  (policy.yaml:4)
  1 rule passed; -v lists all

STATE                 VERDICT   START   KEV  CRIT  HIGH  MED  ALL  BACK  SECRETS
current               drifting  refuse    0     0     0    1    1     -        1
evil\\u001B…]\\\\\\u000A  steady    allow     0     0     0    0    0     0        1
1 snapshot: nothing would come back

FINDINGS  1 in the current state
  WORST   SOURCE                            INSTALLED  FIXED IN  VULNERABILITIES
  medium  evil\\u001B[31m\\u…F[bold]\\\\\\u000A  1.0-1      1.0-2     CVE-2024-0001

MACHINE
  system      Debian GNU/Linux 12 (bookworm)
  last read   2 h ago
  vda         /var/lib/libvirt/images/disk8.qcow2 (qcow2) on
              /var/lib/libvirt/images/debian-12-base.qcow2
  interface   52:54:00:00:00:08 network default
  exposed     evil\\u001B[31m\\u202E\\xFF[bold]\\\\\\u000A: each resume of one draws
              the same random numbers
  ways in     1 account with a shell, 1 authorized key, 1 host key, 1
              certificate, 1 file with secrets
  patch floor none yet
  definition  persistent, genid
  UUID        00000008-0000-4000-8000-000000000008
  on record   since 2025-06-01 11:59, last surveyed 2025-06-01 11:59

WHAT HELPS
  its verdict, rule by rule
      undercroft policy explain 00000008-0000-4000-8000-000000000008
"""


def test_a_machine_at_80_columns(view: View) -> None:
    assert render_machine(view("web01"), Terminal(80)) == AT_80


def test_a_machine_at_140_columns_with_everything(view: View) -> None:
    assert render_machine(view("web01"), Terminal(140), verbose=True) == VERBOSE_AT_140


def test_a_machine_in_quarantine(view: View) -> None:
    assert render_machine(view("db01"), Terminal(80)) == QUARANTINED


def test_a_machine_with_hostile_names(view: View) -> None:
    assert render_machine(view(fleetdata.HOSTILE.uuid), Terminal(80)) == HOSTILE


@pytest.mark.parametrize("name", [machine.uuid for machine in fleetdata.SURVEY.domains])
@pytest.mark.parametrize("verbose", [False, True])
def test_no_line_is_wider_than_the_terminal_and_none_is_hostile(view: View, name: str, verbose: bool) -> None:
    for width in (80, 140):
        text = render_machine(view(name), Terminal(width), verbose=verbose)
        assert all(cell_width(line) <= width for line in text.splitlines())
        assert reports.EVIL not in text
        assert text.isprintable() or set(text) - {"\n"} == {c for c in text if c.isprintable()}


def test_an_alarm_comes_before_the_verdict(view: View) -> None:
    lines = render_machine(view("gw01"), Terminal(80)).splitlines()
    assert lines[1].startswith("ALARM: gw01 lives twice")


def test_what_was_never_read_shows_no_number(view: View) -> None:
    text = render_machine(view("new01"), Terminal(80))
    (row,) = [line for line in text.splitlines() if line.startswith("current")]
    assert row.split() == ["current", "-", "unknown", "-", *["?"] * 5, "-", "?"]
    assert "not read yet" in text


def test_numbers_of_what_was_not_read_whole_are_lower_bounds(view: View) -> None:
    text = render_machine(view("mail01"), Terminal(80))
    (row,) = [line for line in text.splitlines() if line.startswith("current")]
    assert "1+" in row
    assert " 0" not in row
    assert "INCOMPLETE" in text


def test_a_machine_that_is_gone_says_so_first(view: View) -> None:
    gone = replace(view("web01"), gone_at=NOW)
    assert "gone since 2025-06-01 12:00" in render_machine(gone, Terminal(80)).splitlines()[1]


def test_addresses_are_shown_with_who_says_them(view: View) -> None:
    one = view("web01")
    (nic,) = one.interfaces
    reserved = replace(nic, interface=replace(nic.interface, addresses=("192.0.2.7",)))
    text = render_machine(
        replace(one, interfaces=(reserved,), addresses=("192.0.2.8", "2001:db8::8")), Terminal(140)
    )
    assert "vnet1: open; reserved: 192.0.2.7\n" in text
    assert "addresses   192.0.2.8, 2001:db8::8\n" in text


def test_an_origin_that_is_not_certain_is_marked(view: View) -> None:
    assert "revert?" in render_machine(view("db01"), Terminal(80))


def test_long_lists_are_cut_and_say_so(view: View) -> None:
    one = view("web01")
    many = replace(one, decisions=one.decisions * 20, executions=one.executions * 20)
    assert render_machine(many, Terminal(80)).count("more; -v lists all") == 2
    assert "more; -v" not in render_machine(many, Terminal(80), verbose=True)


def test_checkpoints_are_shown_with_their_time_and_parent_the_last_ones_of_many() -> None:
    taken = [DomainCheckpoint("c0"), DomainCheckpoint("c1\x1b", "c0", int(NOW.timestamp()))]
    taken += [DomainCheckpoint(f"c{number}", f"c{number - 1}", 1) for number in range(2, 9)]

    def shown(*checkpoints: DomainCheckpoint) -> list[str]:
        records = MemoryRecords()
        machine = fleetdata.domain(1, "web01", checkpoints=checkpoints)
        with records.transaction() as record:
            record.put_survey(Survey("host1", "", NOW, (machine,)))
            text = render_machine(machine_view(record, "web01", NOW), Terminal(width=100))
        return [line.strip() for line in text.splitlines() if line.startswith("  checkpoint")]

    assert shown() == []
    assert shown(*taken[:2]) == [
        "checkpoint  c0 since when is not known",
        "checkpoint  c1\\u001B since 2025-06-01 12:00, on c0",
    ]
    assert shown(*taken)[:2] == [
        "checkpoint  1 earlier ones; -f json lists all",
        "checkpoint  c1\\u001B since 2025-06-01 12:00, on c0",
    ]
    assert len(shown(*taken)) == 9
