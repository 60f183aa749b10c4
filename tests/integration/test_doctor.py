"""`doctor` on a host that can enforce, and on the same host with one thing after the other broken."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hookhost
import jsonschema
import pytest
from click.testing import CliRunner, Result
from hookhost import HookHost
from memoryfilter import MemoryFilter
from netns import call_in_own_network

from undercroft.adapters import hookfiles
from undercroft.adapters.libvirt.fleet import LibvirtFleet
from undercroft.adapters.libvirt.version import daemon_version
from undercroft.assurance.firewall.hostfacts import Surroundings
from undercroft.cli import doctor as cli
from undercroft.errors import InputError
from undercroft.model.finding import FeedStatus
from undercroft.model.verdict import Action
from undercroft.ports.records import Records
from undercroft.steady.policy import Policy, Setting, Settings
from undercroft.store.fleet.records import open_records
from undercroft.usecases.fleet.audit.audit import sign_head
from undercroft.usecases.fleet.doctor.check import examine
from undercroft.usecases.fleet.doctor.checkup import CheckedHost
from undercroft.usecases.fleet.doctor.filter import FilterHost
from undercroft.usecases.fleet.doctor.health import Check, Health
from undercroft.usecases.fleet.places import Places
from undercroft.usecases.session import start_reader

MISSING = hookhost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("doctor"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def daemon() -> Iterator[HookHost]:
    with hookhost.running() as running:
        running.define("plain", "<interface type='user'/>")
        yield running


@pytest.fixture
def host(daemon: HookHost) -> Iterator[CheckedHost]:
    """A host on which nothing is missing; what a test breaks is whole again for the next."""
    root = daemon.daemon.root
    places = Places(daemon.state, root / "agent", root / "own")
    places.etc.mkdir(exist_ok=True)
    hookfiles.prepare_folders(places.state)
    hookfiles.install_hook(daemon.hooks, daemon.settings)
    with closing(open_records(places.database_url)) as records:
        with records.transaction() as record:
            record.log("policy", "", {"test": 1}, NOW)
        sign_head(records, places.audit_key, places.heads, NOW)

    @contextmanager
    def opened() -> Iterator[Records]:
        with closing(open_records(places.database_url, create=False)) as found:
            yield found

    with daemon.agent().running():
        yield CheckedHost(
            places=places,
            hooks=daemon.hooks,
            run=root / "run",
            version=lambda: daemon_version(daemon.daemon.uri),
            survey=lambda: survey(daemon),
            records=opened,
            policy=lambda: Policy(files=("policy.yaml",)),
            feeds=lambda: (feed(),),
            reader=lambda: closing(start_reader()),
            clock=lambda: datetime.now(UTC),
            filter=unfiltered(),
        )


def unfiltered() -> FilterHost:
    """No policy is in force. `test_doctor_filter` has what is told where one is."""
    kernel = MemoryFilter()
    return FilterHost(
        "host1",
        kernel.features,
        kernel.tables,
        taps=lambda prefixes: (),
        gather=lambda table, taps, priorities: Surroundings(table),
        bridge_ports=lambda: (),
        applied=lambda: (None, None),
    )


def survey(daemon: HookHost):  # type: ignore[no-untyped-def]
    with LibvirtFleet(daemon.daemon.uri, daemon.daemon.state_directory) as fleet:
        return fleet.survey()


def feed(*, stale: bool = False) -> FeedStatus:
    return FeedStatus("kev", "1", NOW, NOW, NOW + timedelta(days=1), 1, stale=stale)


def by_name(host: CheckedHost) -> dict[str, Check]:
    return {check.name: check for check in examine(host)}


def test_nothing_fails_on_a_host_that_can_enforce(host: CheckedHost) -> None:
    checks = examine(host)
    assert [check for check in checks if check.health in {Health.FAIL, Health.UNKNOWN}] == []
    assert {check.name for check in checks} == {
        *("libvirt", "hook", "hook's settings", "agent", "state", "spool", "bridge", "clock"),
        *("sandbox", "policy", "record", "signed heads", "advisories", "networks", "genid"),
        *("packet filter", "firewall"),
    }
    found = by_name(host)
    assert found["libvirt"].found.startswith("libvirt ")
    assert found["genid"].cure == "undercroft machine plain --mend genid"
    assert all(check.cure for check in checks if check.health is not Health.OK)


def _remove_hook(host: CheckedHost) -> None:
    (host.hooks / "qemu.d" / "undercroft").unlink()


def _change_hook(host: CheckedHost) -> None:
    hook = host.hooks / "qemu.d" / "undercroft"
    hook.write_bytes(hook.read_bytes() + b"\n")


def _hook_not_executable(host: CheckedHost) -> None:
    (host.hooks / "qemu.d" / "undercroft").chmod(0o644)


def _hook_for_everyone(host: CheckedHost) -> None:
    (host.hooks / "qemu.d" / "undercroft").chmod(0o777)


def _spoil_settings(host: CheckedHost) -> None:
    (host.hooks / "undercroft.json").write_text("{")


def _settings_of_another(host: CheckedHost) -> None:
    settings = hookfiles.read_settings(host.hooks)
    hookfiles.install_hook(host.hooks, replace(settings, state="/elsewhere"))


def _cut_log(host: CheckedHost) -> None:
    host.places.state.joinpath("fleet.db").unlink()
    open_records(host.places.database_url).close()


def _spoil_heads(host: CheckedHost) -> None:
    with host.places.heads.open("ab") as heads:
        heads.write(b"{}\n")


@pytest.mark.parametrize(
    ("fault", "name", "words"),
    [
        (_remove_hook, "hook", "is not there"),
        (_change_hook, "hook", "is not the one of this version"),
        (_hook_not_executable, "hook", "is not executable"),
        (_hook_for_everyone, "hook", "can be written by others"),
        (_spoil_settings, "hook's settings", "every start is refused"),
        (_settings_of_another, "hook's settings", "names /elsewhere"),
        (_cut_log, "signed heads", "does not continue the head"),
        (_spoil_heads, "signed heads", "line 2"),
    ],
)
def test_one_fault_is_one_failure_with_a_cure(
    host: CheckedHost, fault: Callable[[CheckedHost], None], name: str, words: str
) -> None:
    fault(host)
    failed = [check for check in examine(host) if check.health is Health.FAIL]
    _heal(host)
    assert [check.name for check in failed] == [name]
    assert words in failed[0].found
    assert failed[0].cure
    assert ("undercroft audit restart" in failed[0].cure) is (name == "signed heads")


def _heal(host: CheckedHost) -> None:
    """Leave a log that its heads pin, for the next test."""
    host.places.heads.unlink()


def test_an_agent_that_does_not_answer_and_an_event_that_waits_are_failures(host: CheckedHost) -> None:
    name = f"{time.time_ns() - 3600 * 10**9:020d}-{'0' * 32}.json"
    elsewhere = replace(host.places, run=host.places.run / "none")
    state = host.places.state.parent / "other"
    hookfiles.prepare_folders(state)
    (state / "spool" / name).write_text("{}")
    found = by_name(replace(host, places=replace(elsewhere, state=state)))
    assert found["agent"].health is Health.FAIL
    assert found["agent"].cure == "systemctl start undercroft"
    assert found["spool"].health is Health.FAIL
    assert "1 events wait, the oldest for 36" in found["spool"].found


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")
def test_a_user_who_may_not_ask_is_told_so_and_not_that_the_agent_is_away() -> None:
    # A path of the system's own that only root may enter.
    script = """
import os
from pathlib import Path
from types import SimpleNamespace
from undercroft.usecases.fleet.doctor.host import _agent
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
host = SimpleNamespace(places=SimpleNamespace(admission_socket=Path("/root/admission.sock")))
print(*[check.health for check in _agent(host)])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("unknown\n", "")


def test_a_hook_younger_than_libvirt_is_told_until_it_is_called(host: CheckedHost, daemon: HookHost) -> None:
    run = host.places.run / "pids"
    run.mkdir(exist_ok=True)
    os.utime(host.places.spool, (1, 1))
    pid = _daemon_pid(daemon)
    (run / "libvirtd.pid").write_text(str(pid))
    young = replace(host, run=run)
    later = time.time() + 3600
    os.utime(host.hooks / "qemu.d" / "undercroft", (later, later))
    assert by_name(young)["hook"].health is Health.WARN
    assert by_name(young)["libvirt"].found.startswith("libvirtd ")
    os.utime(host.places.spool, (later + 1, later + 1))
    assert by_name(young)["hook"].health is Health.OK


def _daemon_pid(daemon: HookHost) -> int:
    """Return libvirtd's process as seen from here."""
    first = int(daemon.daemon.inside[2])
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return next(int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text() == "libvirtd\n")


def test_what_cannot_be_looked_at_is_unknown_and_keeps_no_other_check_back(host: CheckedHost) -> None:
    def fails() -> Policy:
        raise InputError("policy.yaml:3: 'alow': allow, quarantine or refuse expected")

    found = by_name(replace(host, policy=fails))
    assert found["policy"].health is Health.FAIL
    assert "policy.yaml:3" in found["policy"].found
    assert "no agent starts: no good policy was ever kept" in found["policy"].cure
    assert found["machines"].health is Health.UNKNOWN
    assert found["clock"].name == "clock"


@pytest.mark.parametrize(("feeds", "words"), [((), "there are none"), ((feed(stale=True),), "too old: kev")])
def test_missing_or_old_advisories_are_a_failure(
    host: CheckedHost, feeds: tuple[FeedStatus, ...], words: str
) -> None:
    found = by_name(replace(host, feeds=lambda: feeds))["advisories"]
    assert found.health is Health.FAIL
    assert words in found.found
    assert found.cure == "undercroft feeds update"


def test_a_machine_that_should_be_quarantined_and_cannot_be_is_named(host: CheckedHost) -> None:
    strict = Policy(Settings(drifting=Setting(Action.QUARANTINE)), files=("policy.yaml",))
    found = by_name(replace(host, policy=lambda: strict))["networks"]
    assert found.health is Health.WARN
    assert "not at all" in found.found
    assert "plain" in found.found


def test_each_mistake_of_a_policy_stands_on_its_own_line() -> None:
    check = Check("policy", Health.FAIL, "a.yaml:2: one\na.yaml:3: two\x1b[2J", "undercroft policy check")
    shown = cli._rendered([check]).splitlines()
    assert [line.strip() for line in shown[1:]] == ["a.yaml:3: two\\u001B[2J", "-> undercroft policy check"]


def test_the_exit_code_puts_a_failure_before_what_is_unknown() -> None:
    ok, warn, fail, unknown = (Check("x", health, "") for health in Health)
    assert cli.exit_code([ok, warn]) == 0
    assert cli.exit_code([ok, unknown]) == 4
    assert cli.exit_code([unknown, fail]) == 1


def invoke(arguments: list[str]) -> Result:
    """Run the command, where it can be in a network of its own: it looks at the packet filter, too."""

    def run() -> Result:
        return CliRunner().invoke(cli.command, arguments)

    return call_in_own_network(run) if os.geteuid() == 0 else run()


def test_the_command_says_what_is_missing_where_nothing_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERCROFT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("UNDERCROFT_RUN", str(tmp_path / "run"))
    result = invoke(["-c", f"qemu+unix:///system?socket={tmp_path}/none"])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "fail     agent" in result.output
    assert "-> systemctl start undercroft" in result.output


def test_what_it_finds_is_documented_for_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCROFT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("UNDERCROFT_RUN", str(tmp_path / "run"))
    arguments = ["-f", "json", "-c", f"qemu+unix:///system?socket={tmp_path}/none"]
    document = json.loads(invoke(arguments).output)
    schema = json.loads((Path(__file__).parents[2] / "docs/schema/doctor-v1.json").read_text())
    jsonschema.validate(document, schema)
    assert document["able"] is False
    assert document["checks"][0]["name"] == "libvirt"
