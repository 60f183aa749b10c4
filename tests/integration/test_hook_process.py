"""The hook as a process of its own: without its agent, with one that lies or hangs, with no room."""

import hashlib
import hmac
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hookhost
import pytest
from hookhost import Agent
from netns import in_own_network

from undercroft.adapters import hookfiles
from undercroft.adapters.hookfiles import DecidedImage, HookSettings, LastDecision
from undercroft.agent.admissionserver import Answer
from undercroft.model.execution import HookEvent
from undercroft.model.verdict import Action

pytestmark = pytest.mark.skipif(
    not Path("/usr/bin/python3").exists(), reason="the hook runs with the system's Python"
)

UUID = "c7a5fdbd-cdaf-9455-926a-d65c16db1809"


class Lab:
    """An installed hook, its folders, and a machine with one disk."""

    def __init__(self, root: Path) -> None:
        self.state = root / "state"
        self.hooks = root / "hooks"
        self.image = root / "web01.raw"
        self.image.write_bytes(b"disk")
        self.settings = HookSettings(str(self.state), str(root / "run" / "admission.sock"))
        hookfiles.prepare_folders(self.state)
        self.install()

    def install(self, **changes: object) -> None:
        self.settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        hookfiles.install_hook(self.hooks, self.settings)

    def install_settings_only(self, **changes: object) -> None:
        hook = self.hook.read_bytes()
        self.install(**changes)
        self.hook.write_bytes(hook)

    @property
    def hook(self) -> Path:
        return self.hooks / "qemu.d" / "undercroft"

    def xml(self, devices: str = "") -> str:
        return (
            f"<domain type='kvm'><name>web01</name><uuid>{UUID}</uuid><devices>"
            f"<disk type='file' device='disk'><source file='{self.image}'/><target dev='vda'/></disk>"
            "<disk type='file' device='cdrom'/>"
            f"{devices}</devices></domain>"
        )

    def start(self, operation: str = "prepare", sub: str = "begin", xml: str | None = None) -> "Process":
        command = [str(self.hook), "web01", operation, sub, "-"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdin is not None
        process.stdin.write((self.xml() if xml is None else xml).encode())
        process.stdin.close()
        process.stdin = None
        return process

    def call(self, operation: str = "prepare", sub: str = "begin", xml: str | None = None) -> tuple[int, str]:
        process = self.start(operation, sub, xml)
        out, told = process.communicate(timeout=60)
        assert out == b""
        return process.returncode, told.decode()

    def agent(self, answer: hookhost.Answer = hookhost.ALLOW, *, hangs: bool = False) -> Agent:
        return Agent(self.state, Path(self.settings.socket), answer, hangs)

    def events(self) -> list[HookEvent]:
        return [hookfiles.read_event(self.state, name) for name in hookfiles.spooled(self.state)]

    def decide(self, action: Action = Action.ALLOW, **changes: object) -> None:
        found = self.image.stat()
        decision = LastDecision(
            machine=UUID,
            name="web01",
            action=action,
            hold=False,
            reason="steady at noon",
            until=datetime.now(UTC) + timedelta(hours=1),
            images=(DecidedImage(str(self.image), found.st_dev, found.st_ino),),
        )
        hookfiles.write_decision(self.state, replace(decision, **changes))  # type: ignore[arg-type]


Process = subprocess.Popen[bytes]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_without_agent_and_last_decision_the_settings_decide_and_the_event_says_so(lab: Lab) -> None:
    code, told = lab.call()
    assert code == 1
    assert "the agent is away (No such file or directory)" in told
    (event,) = lab.events()
    assert (event.alone, event.decided, event.uuid) == (True, "refuse", UUID)
    assert event.reason in told
    lab.install(away=Action.ALLOW)
    assert lab.call() == (0, "")


def test_without_agent_its_last_decision_counts(lab: Lab) -> None:
    lab.decide(Action.ALLOW)
    assert lab.call() == (0, "")
    lab.decide(Action.REFUSE)
    lab.install(away=Action.ALLOW)
    code, told = lab.call()
    assert code == 1
    assert "its last decision: steady at noon" in told


def test_a_last_decision_that_has_expired_does_not_count(lab: Lab) -> None:
    lab.decide(until=datetime.now(UTC) - timedelta(seconds=1))
    code, told = lab.call()
    assert code == 1
    assert "it has expired" in told


def test_a_last_decision_counts_only_while_the_image_is_the_same_file(lab: Lab) -> None:
    lab.decide()
    replacement = lab.image.with_name("other")
    replacement.write_bytes(b"disk")
    replacement.replace(lab.image)
    code, told = lab.call()
    assert code == 1
    assert f"{lab.image} was replaced since" in told


@pytest.mark.parametrize(
    ("away", "last", "code"),
    [
        (Action.ALLOW, Action.REFUSE, 1),
        (Action.QUARANTINE, Action.REFUSE, 1),
        (Action.REFUSE, Action.QUARANTINE, 1),
        (Action.ALLOW, Action.ALLOW, 0),
    ],
)
def test_another_image_lifts_no_refusal_where_the_settings_would_let_the_machine_in(
    lab: Lab, away: Action, last: Action, code: int
) -> None:
    lab.install(away=away)
    lab.decide(last, images=())
    assert lab.call()[0] == code
    (event,) = lab.events()
    assert event.decided == max(away, last, key=list(Action).index)


def test_a_last_decision_does_not_cover_a_disk_that_was_added(lab: Lab) -> None:
    lab.decide()
    added = "<disk type='file' device='disk'><source file='/srv/other.raw'/></disk>"
    code, told = lab.call(xml=lab.xml(added))
    assert code == 1
    assert "/srv/other.raw was not part of it" in told


@pytest.mark.parametrize("edit", ["action", "mac", "key", "other machine"])
def test_a_last_decision_that_somebody_changed_does_not_count(lab: Lab, edit: str) -> None:
    lab.decide(Action.REFUSE if edit == "action" else Action.ALLOW)
    path = lab.state / "decisions" / f"{UUID}.json"
    raw = json.loads(path.read_text())
    if edit == "action":
        raw["decision"] = raw["decision"].replace("refuse", "allow")
    elif edit == "mac":
        raw["mac"] = "0" * 64
    elif edit == "key":
        (lab.state / "hook.key").write_bytes(bytes(32))
    else:
        lab.decide(machine=UUID.replace("c7", "c8"))
        raw = json.loads((path.with_name(f"{UUID.replace('c7', 'c8')}.json")).read_text())
    path.write_text(json.dumps(raw))
    code, told = lab.call()
    assert code == 1
    assert "no last decision counts" in told


@pytest.mark.parametrize("listed", ["web01", "web0*", UUID])
def test_the_break_glass_list_passes_before_last_decision_and_settings(lab: Lab, listed: str) -> None:
    lab.decide(Action.REFUSE)
    lab.install(break_glass=("db01", listed))
    assert lab.call() == (0, "")
    (event,) = lab.events()
    assert (event.alone, event.decided) == (True, "allow")
    assert "break-glass" in event.reason


def test_the_break_glass_list_counts_for_nothing_while_the_agent_answers(lab: Lab) -> None:
    lab.install(break_glass=("web01",))
    with lab.agent(hookhost.REFUSE).running():
        assert lab.call()[0] == 1


def test_an_agent_that_hangs_is_given_up_after_the_timeout_and_hears_of_it_later(lab: Lab) -> None:
    lab.install(timeout_s=0.3)
    with lab.agent(hangs=True).running() as hanging:
        code, told = lab.call()
    assert code == 1
    assert "no answer in 0.3 s" in told
    with lab.agent().running() as agent:
        pass
    assert {event.ident for event in agent.events} == {hanging.events[0].ident}
    assert [event.decided for event in agent.events if event.alone] == ["refuse"]


@pytest.mark.parametrize("known", [True, False])
def test_an_image_that_takes_too_long_to_read_is_no_way_around_the_agent(lab: Lab, *, known: bool) -> None:
    lab.install(timeout_s=0.3, away=Action.ALLOW)
    if known:
        lab.decide(Action.ALLOW)
    with lab.agent(hangs=True).running():
        assert lab.call() == (0, "")
    note = hookfiles.read_note(lab.state, UUID)
    assert note is not None
    assert (note.action, note.closed) == (Action.QUARANTINE, True)
    (event,) = [event for event in lab.events() if event.alone]
    assert (event.decided, event.alone) == ("quarantine", True)


def test_control_with_the_agent_away_the_settings_let_it_in(lab: Lab) -> None:
    lab.install(timeout_s=0.3, away=Action.ALLOW)
    assert lab.call() == (0, "")
    note = hookfiles.read_note(lab.state, UUID)
    assert note is not None
    assert (note.action, note.closed) == (Action.ALLOW, False)


def test_a_slow_agent_keeps_neither_break_glass_nor_what_cannot_be_held_from_starting(lab: Lab) -> None:
    lab.install(timeout_s=0.3, away=Action.ALLOW)
    with lab.agent(hangs=True).running():
        assert lab.call(xml=lab.xml("<interface type='user'/>")) == (0, "")
    lab.install(break_glass=("web*",))
    with lab.agent(hangs=True).running():
        assert lab.call() == (0, "")
    note = hookfiles.read_note(lab.state, UUID)
    assert note is not None
    assert not note.closed


@pytest.mark.parametrize(
    "lie",
    [
        b"",
        b"{}\n",
        b"[]\n",
        b"{\n",
        b"\xff\n",
        b'{"action":"permit","hold":false,"reason":""}\n',
        b'{"action":"allow","hold":0,"reason":""}\n',
        b'{"action":"allow","hold":false}\n',
        b'{"action":"allow","hold":false,"reason":""} true\n',
        b"[" * 100_000 + b"\n",
        b"x" * 200_000,
    ],
)
def test_an_answer_that_is_none_counts_as_no_answer(lab: Lab, lie: bytes) -> None:
    with answering(lab, lie):
        code, told = lab.call()
    assert code == 1
    assert "Traceback" not in told


def test_control_a_plain_server_with_a_proper_answer_is_heeded(lab: Lab) -> None:
    with answering(lab, b'{"action":"allow","hold":false,"reason":"fine"}\n'):
        assert lab.call() == (0, "")


def test_a_reason_cannot_play_with_the_terminal(lab: Lab) -> None:
    with answering(lab, b'{"action":"refuse","hold":false,"reason":"\\u001b[2J\\u202eevil\\nline"}\n'):
        _, told = lab.call()
    assert told == "undercroft: web01 may not start: ?[2J?evil?line\n"


def test_a_hook_that_is_killed_before_the_answer_leaves_an_event_that_counts_once(lab: Lab) -> None:
    lab.install(timeout_s=30.0)
    with silent(lab) as asked:
        process = lab.start()
        assert asked.wait(30)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with lab.agent().running() as agent:
        pass
    assert agent.steps("web01") == ["prepare begin"]
    assert lab.events() == []


def test_a_full_spool_refuses_starts_with_the_cure_but_not_the_break_glass_list(lab: Lab) -> None:
    lab.install(away=Action.ALLOW, spool_limit=3)
    assert lab.call()[0] == 0
    assert lab.call()[0] == 0
    code, told = lab.call()
    assert code == 1
    assert f"{lab.state}/spool is full" in told
    assert "systemctl restart undercroft" in told
    assert lab.call("stopped", "end")[0] == 0
    assert lab.events()[-1].operation == "stopped"
    lab.install(break_glass=("web01",))
    code, told = lab.call()
    assert code == 0
    assert "without a record" in told


@pytest.mark.skipif(os.geteuid() != 0, reason="a small filesystem needs root")
def test_a_full_disk_refuses_starts_and_leaves_no_half_event(lab: Lab) -> None:
    script = (
        f"mount -t tmpfs -o size=64k none {lab.state}/spool && mkdir {lab.state}/spool/bad &&"
        f" head -c 1M /dev/zero > {lab.state}/spool/.filler; {lab.hook} web01 prepare begin -;"
        f" echo code $?; ls -A {lab.state}/spool"
    )
    command = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(command, input=lab.xml(), capture_output=True, text=True, check=True)
    assert "the event cannot be kept: No space left on device" in done.stderr
    assert done.stdout.split() == ["code", "1", ".filler", "bad"]


def test_without_its_settings_a_start_is_refused_and_an_end_is_not(lab: Lab) -> None:
    (lab.hooks / "undercroft.json").unlink()
    code, told = lab.call()
    assert code == 1
    assert f"remove {lab.hook}" in told
    assert lab.call("release", "end")[0] == 0


@pytest.mark.parametrize("text", ["", "{", '{"state":"/x"}', "[1]", '{"state":1}'])
def test_malformed_settings_refuse(lab: Lab, text: str) -> None:
    (lab.hooks / "undercroft.json").write_text(text)
    code, told = lab.call()
    assert code == 1
    assert told.startswith(f"undercroft: {lab.hooks}/undercroft.json: ")
    assert told.count("\n") == 1


def test_settings_that_others_may_write_refuse(lab: Lab) -> None:
    (lab.hooks / "undercroft.json").chmod(0o666)
    code, told = lab.call()
    assert code == 1
    assert "others than root may write it" in told


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<domain>",
        "<domain><uuid>../../../etc/passwd</uuid></domain>",
        f"<domain><uuid>{UUID[:-1]}/</uuid></domain>",
        "<domain/>",
        f"<!DOCTYPE domain [<!ENTITY a 'b'>]><domain><uuid>{UUID}</uuid></domain>",
        "<a>" * 100,
        f"<domain><uuid>{UUID}</uuid><title>{'x' * (9 << 20)}</title></domain>",
    ],
)
def test_xml_that_is_no_machine_s_is_refused_with_one_line(lab: Lab, xml: str) -> None:
    lab.install(away=Action.ALLOW)
    command = [str(lab.hook), "web01", "prepare", "begin", "-"]
    done = subprocess.run(command, input=xml.encode(), capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert lab.events() == []


def test_an_image_that_is_swapped_between_the_judgement_and_the_start_is_refused(lab: Lab) -> None:
    other = lab.image.with_name("other.raw")
    other.write_bytes(b"evil")
    with lab.agent().running():
        assert lab.call() == (0, "")
        other.replace(lab.image)
        code, told = lab.call("start")
    assert code == 1
    assert f"{lab.image} was replaced after it was judged" in told


def test_a_link_that_is_turned_between_the_judgement_and_the_start_is_refused(lab: Lab) -> None:
    judged, other = lab.image.with_name("judged.raw"), lab.image.with_name("other.raw")
    lab.image.rename(judged)
    other.write_bytes(b"evil")
    lab.image.symlink_to(judged)
    with lab.agent(hookhost.ALLOW).running():
        assert lab.call() == (0, "")
        lab.image.unlink()
        lab.image.symlink_to(other)
        assert lab.call("start")[0] == 1
        lab.image.unlink()
        lab.image.symlink_to(judged)
        assert lab.call("start") == (0, ""), "control: the file that was judged"


def test_an_image_that_libvirt_gives_to_qemu_s_user_in_between_is_the_same(lab: Lab) -> None:
    with lab.agent().running():
        assert lab.call() == (0, "")
        lab.image.chmod(0o640)
        assert lab.call("start") == (0, "")


def test_a_start_without_prepare_s_note_is_refused(lab: Lab) -> None:
    code, told = lab.call("start", "begin")
    assert code == 1
    assert "is missing: prepare leaves its answer there" in told


@pytest.mark.parametrize(
    ("operation", "sub"),
    [
        ("migrate", "begin"),
        ("restore", "begin"),
        ("started", "begin"),
        ("reconnect", "begin"),
        ("attach", "begin"),
    ],
)
def test_what_is_only_told_is_kept_whether_the_agent_is_there_or_not(
    lab: Lab, operation: str, sub: str
) -> None:
    assert lab.call(operation, sub) == (0, "")
    (event,) = lab.events()
    assert (event.operation, event.sub, event.alone, event.save) == (operation, sub, False, None)


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ("<interface type='user'/>", "an interface of type 'user'"),
        ("<interface type='direct'><source dev='eth0'/></interface>", "an interface of type 'direct'"),
        ("<interface type='hostdev'/>", "an interface of type 'hostdev'"),
        ("<interface type='vhostuser'/>", "an interface of type 'vhostuser'"),
        (
            "<hostdev type='pci'><source><address domain='0x7fff' bus='0xff' slot='0x1f' function='0x7'/>"
            "</source></hostdev>",
            "the host's PCI device 7fff:ff:1f.7",
        ),
        (
            "<hostdev mode='subsystem' type='usb'><source><vendor id='0x0b95'/></source></hostdev>",
            "a USB device of the host",
        ),
        *(
            (
                f"</devices><qemu:commandline><qemu:arg value='{word}'/></qemu:commandline><devices>",
                "what <qemu:commandline> adds cannot be held",
            )
            for word in ("-netdev", "--netdev", "-readconfig")
        ),
    ],
)
def test_a_way_to_the_network_that_cannot_be_held_is_refused_where_it_would_have_to_be(
    lab: Lab, devices: str, words: str
) -> None:
    with lab.agent(hookhost.QUARANTINE).running() as agent:
        code, told = lab.call(xml=lab.xml(devices))
    assert code == 1
    assert "unenforceable" in told
    assert words in told
    asked, refused = agent.events if len(agent.events) == 2 else [*agent.events, *lab.events()]
    assert (asked.alone, refused.alone, refused.decided) == (False, True, "refuse")
    assert asked.ident != refused.ident
    with lab.agent().running():
        assert lab.call(xml=lab.xml(devices)) == (0, "")


@pytest.mark.parametrize("tap", ["", "vnet-of-nobody", "../../x", "lo", "x" * 300])
def test_a_start_whose_tap_is_none_is_refused(lab: Lab, tap: str) -> None:
    devices = f"<interface type='bridge'><source bridge='lab0'/><target dev='{tap}'/></interface>"
    with lab.agent(hookhost.QUARANTINE).running():
        assert lab.call(xml=lab.xml(devices)) == (0, "")
        code, told = lab.call("start", "begin", lab.xml(devices))
    assert code == 1
    assert told.startswith("undercroft: web01 may not start: ")
    assert told.count("\n") == 1


def test_a_hook_whose_input_never_ends_gives_up_by_itself(lab: Lab) -> None:
    text = lab.hook.read_text()
    lab.hook.write_text(text.replace("SPARE_S = 15", "SPARE_S = 1"))
    lab.install_settings_only(timeout_s=0.1)
    command = [str(lab.hook), "web01", "prepare", "begin", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"took too long" in process.stderr.read()
        assert process.wait() == 1


def test_what_the_hook_writes_is_what_the_model_reads(lab: Lab) -> None:
    text = 'é "quoted" \\ \u2028 \U0001f600 ' + "long" * 50_000
    with lab.agent().running() as agent:
        assert lab.call(xml=lab.xml(f"<!--{text}-->")) == (0, "")
    assert text in agent.events[0].xml
    note = hookfiles.read_note(lab.state, UUID)
    assert note is not None
    assert (note.eid, note.action, note.closed) == (agent.events[0].eid, Action.ALLOW, False)


def test_the_hook_imports_a_few_modules_and_no_more() -> None:
    hook = Path(hookfiles.__file__).parents[2] / "hook" / "qemu_hook.py"
    command = ["/usr/bin/python3", "-ISB", "-X", "importtime", str(hook)]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    imported = set(re.findall(r"\|\s+(\S+)$", told, re.MULTILINE))
    bare = subprocess.run([*command[:-1], "-c", ""], capture_output=True, text=True, check=True).stderr
    own = imported - set(re.findall(r"\|\s+(\S+)$", bare, re.MULTILINE)) - {"package"}
    assert own <= {
        *("__future__", "_json", "_signal", "_socket", "errno", "pyexpat"),  # errno: Python 3.13's own
        *("os", "stat", "_stat", "posixpath", "genericpath", "os.path", "_collections_abc"),
    }


def test_the_hook_keeps_to_what_python_3_9_has() -> None:
    # In a process of its own: what garbage collection finds in this one would end the parser.
    parse = "import ast, sys; ast.parse(sys.stdin.buffer.read(), feature_version=(3, 9))"
    subprocess.run([sys.executable, "-c", parse], input=hookfiles.shipped_hook(), check=True)


@contextmanager
def answering(lab: Lab, answer: bytes) -> Iterator[None]:
    """Be an agent that says these bytes to the first who asks, whatever they are."""
    address = Path(lab.settings.socket)
    address.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(address))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(128)
                with suppress(OSError):  # the hook may have had enough
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(30)


@contextmanager
def silent(lab: Lab) -> Iterator[threading.Event]:
    """Be an agent that takes the name of the first file and never answers; the event is set then."""
    address = Path(lab.settings.socket)
    address.parent.mkdir()
    asked, done = threading.Event(), threading.Event()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(address))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(128)
                asked.set()
                done.wait(60)

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        done.set()
        thread.join(30)
    address.unlink()


# Labels of a filter: what the hook does at `start`, with a real tap in a network of its own.

TAP, TAP_BRIDGE = "vnet7", "lab0"
ON_TAP = f"<interface type='bridge'><source bridge='{TAP_BRIDGE}'/><target dev='{TAP}'/></interface>"


def plugged() -> None:
    """Make a tap on a bridge, as libvirt has it when it calls `start begin`."""
    for command in (
        f"link add {TAP_BRIDGE} type bridge",
        f"tuntap add {TAP} mode tap",
        f"link set {TAP} master {TAP_BRIDGE}",
        f"link set {TAP} up",
    ):
        subprocess.run(["ip", *command.split()], check=True)


def on_bridge() -> bool:
    shown = subprocess.run(["ip", "-j", "link", "show", TAP], capture_output=True, check=True, text=True)
    (link,) = json.loads(shown.stdout)
    is_up = "UP" in link["flags"]
    assert is_up == ("master" in link)
    return is_up


def begun(lab: Lab) -> int:
    """Call the hook as a start does; return its last exit code."""
    plugged()
    code, _ = lab.call("prepare", xml=lab.xml(ON_TAP))
    return code or lab.call("start", xml=lab.xml(ON_TAP))[0]


@in_own_network
def test_a_tap_that_the_agent_has_labelled_stays_on_its_bridge(lab: Lab) -> None:
    agent = lab.agent(hookhost.LABEL)
    agent.labels = hookhost.LABELLED
    with agent.running():
        assert begun(lab) == 0
    assert on_bridge()
    assert agent.steps("web01") == ["prepare begin", "start begin"]
    assert f"<target dev='{TAP}'/>" in agent.events[-1].xml, "the agent learns the tap's name"


@in_own_network
def test_a_quarantine_by_the_filter_leaves_its_tap_on_its_bridge_too(lab: Lab) -> None:
    agent = lab.agent(replace(hookhost.QUARANTINE, label=True))
    agent.labels = hookhost.LABELLED
    with agent.running():
        assert begun(lab) == 0
    assert on_bridge()


@pytest.mark.parametrize("answer", [hookhost.UNLABELLED, None], ids=["no labels", "no answer"])
@pytest.mark.parametrize("decided", [hookhost.LABEL, replace(hookhost.QUARANTINE, label=True)])
def test_a_tap_without_labels_is_off_its_bridge_and_the_agent_is_told(
    lab: Lab, answer: Answer | None, decided: Answer
) -> None:
    agent = lab.agent(decided)
    agent.labels = answer

    @in_own_network
    def start() -> None:
        with agent.running():
            assert begun(lab) == 0
            agent.wait_for_events(3)
        assert not on_bridge()

    start()
    first, second = agent.events[1:]
    assert (first.operation, first.alone, second.operation, second.alone) == ("start", False, "start", True)
    assert (second.eid, second.decided) == (first.eid, "")
    assert second.ident != first.ident
    assert "its taps have no labels yet" in second.reason
    note = hookfiles.read_note(lab.state, UUID)
    assert note is not None
    assert (note.closed, note.hold, [tap.tap for tap in note.taps]) == (True, True, [TAP])
    assert note.action is decided.action


@in_own_network
def test_an_agent_that_went_away_after_prepare_leaves_the_tap_closed_and_the_event_kept(lab: Lab) -> None:
    plugged()
    with lab.agent(hookhost.LABEL).running():
        assert lab.call("prepare", xml=lab.xml(ON_TAP))[0] == 0
    assert lab.call("start", xml=lab.xml(ON_TAP))[0] == 0
    assert not on_bridge()
    (event,) = lab.events()
    assert (event.operation, event.alone) == ("start", True)


@in_own_network
def test_while_the_agent_is_away_its_settings_say_whether_a_filter_is_in_force(lab: Lab) -> None:
    lab.decide(Action.ALLOW)
    lab.install(label=True)
    assert begun(lab) == 0
    assert not on_bridge()


@in_own_network
def test_control_without_a_filter_the_same_tap_stays_on_its_bridge(lab: Lab) -> None:
    lab.decide(Action.ALLOW)
    assert begun(lab) == 0
    assert on_bridge()


@in_own_network
def test_a_machine_on_the_break_glass_list_keeps_its_tap_which_the_filter_itself_closes(lab: Lab) -> None:
    lab.install(label=True, break_glass=("web01",))
    assert begun(lab) == 0
    assert on_bridge()


def test_a_quarantine_by_the_filter_of_what_no_filter_reaches_is_refused(lab: Lab) -> None:
    with lab.agent(replace(hookhost.QUARANTINE, label=True)).running():
        code, told = lab.call("prepare", xml=lab.xml("<interface type='user'/>"))
    assert code == 1
    assert "unenforceable" in told


LEAVES_OPEN = replace(hookhost.QUARANTINE, leaves_open=True)
BESIDE_TAP = f"{ON_TAP}<interface type='user'><mac address='52:54:00:12:34:56'/></interface>"
WORDS = "the policy leaves open: an interface of type 'user'"


@in_own_network
def test_where_the_policy_leaves_open_what_cannot_be_held_the_taps_are_held(lab: Lab) -> None:
    plugged()
    with lab.agent(LEAVES_OPEN).running() as agent:
        assert lab.call("prepare", xml=lab.xml(BESIDE_TAP)) == (0, "")
        assert on_bridge()
        assert lab.call("start", xml=lab.xml(BESIDE_TAP)) == (0, "")
        assert not on_bridge()
        agent.wait_for("web01", "start begin")
    assert not any(event.alone for event in agent.events), "it is the agent's answer that counts"
    note = hookfiles.read_note(lab.state, UUID)
    assert note is not None
    assert (note.closed, note.leaves_open, [tap.tap for tap in note.taps]) == (True, True, [TAP])
    assert note.reason == f"{LEAVES_OPEN.reason}; {WORDS}"


@in_own_network
def test_control_where_the_policy_refuses_them_nothing_starts(lab: Lab) -> None:
    plugged()
    with lab.agent(hookhost.QUARANTINE).running():
        code, told = lab.call("prepare", xml=lab.xml(BESIDE_TAP))
    assert code == 1
    assert "unenforceable: allow" in told, "the cure is named"


@in_own_network
def test_where_the_policy_leaves_open_what_no_filter_reaches_the_taps_are_labelled(lab: Lab) -> None:
    plugged()
    agent = lab.agent(replace(LEAVES_OPEN, label=True))
    agent.labels = hookhost.LABELLED
    with agent.running():
        assert lab.call("prepare", xml=lab.xml(BESIDE_TAP)) == (0, "")
        assert lab.call("start", xml=lab.xml(BESIDE_TAP)) == (0, "")
    assert on_bridge()
    note = hookfiles.read_note(lab.state, UUID)
    assert note is not None
    assert (note.closed, note.label, WORDS in note.reason) == (False, True, True)


@in_own_network
def test_the_last_decision_says_without_the_agent_whether_the_policy_leaves_them_open(lab: Lab) -> None:
    plugged()
    lab.decide(Action.QUARANTINE)
    code, told = lab.call("prepare", xml=lab.xml(BESIDE_TAP))
    assert (code, "unenforceable" in told) == (1, True)
    lab.decide(Action.QUARANTINE, leaves_open=True)
    assert lab.call("prepare", xml=lab.xml(BESIDE_TAP)) == (0, "")
    assert lab.call("start", xml=lab.xml(BESIDE_TAP)) == (0, "")
    assert not on_bridge()
    assert WORDS in lab.events()[-2].reason or WORDS in str(hookfiles.read_note(lab.state, UUID))


def test_a_last_decision_of_an_earlier_version_leaves_nothing_open(lab: Lab) -> None:
    lab.decide(Action.QUARANTINE)
    path, key = lab.state / "decisions" / f"{UUID}.json", (lab.state / "hook.key").read_bytes()
    body = json.loads(json.loads(path.read_text())["decision"])
    assert body.pop("leaves_open") is False
    text = json.dumps(body)
    mark = b"undercroft last decision 1\n"
    code = hmac.new(key, mark + text.encode(), hashlib.sha256).hexdigest()
    path.write_text(json.dumps({"decision": text, "mac": code}))
    assert lab.call("prepare", xml=lab.xml("<interface type='user'/>"))[0] == 1
    assert lab.call("prepare", xml=lab.xml())[0] == 0, "control: the decision itself counts"


def test_a_machine_without_taps_needs_no_labels(lab: Lab) -> None:
    with lab.agent(hookhost.LABEL).running() as agent:
        assert lab.call("prepare")[0] == 0
        assert lab.call("start")[0] == 0
        agent.wait_for("web01", "start begin")
    assert len(agent.events) == 2
