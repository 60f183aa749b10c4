"""A fleet's host whose machines have a channel, and the helper in their guests or not."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import channelguest
import fleethost
import guests
import hookhost
from fleethost import FleetHost
from fleetstates import NEW, filesystem, mac_of
from program import PROGRAM

from undercroft.adapters.libvirt.channel_xml import DEVICE
from undercroft.adapters.tracefile import read_traces
from undercroft.agent.guestchild import answers, listening
from undercroft.assurance import trace
from undercroft.usecases.fleet.places import Places

MODULES = (*channelguest.MODULES, "virtio_net")
MEMORY_MIB = 192
REQUIRED = "version: 1\ndefaults: {drifting: quarantine, below_floor: quarantine, reseed: required}\n"
IGNORED = REQUIRED.replace("required", "ignored")
_HELPER = """
mkdir -p /run /sys/fs/cgroup /etc/undercroft/hooks.d
mount -t tmpfs run /run
mount -t cgroup2 none /sys/fs/cgroup
/usr/bin/python3 -ISB /undercroft_guest.py run >/dev/ttyS0 2>&1 &
"""
_RNG = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"


class ChannelHost:
    """The host, and the two kinds of guests that it has.

    Attributes:
        fleet: the host.
        helping: what a guest with the helper boots; without it, `fleet.boot`.
        state: the filesystem of its machines, patched.
        traced: what the guest service has written of its run, where `serving`.
        wants: which policies, by digest, want fresh randomness; those that were not written here do.
    """

    def __init__(self, fleet: FleetHost, folder: Path) -> None:
        self.fleet = fleet
        self.state = filesystem(folder, "new", NEW)
        self.traced = folder / "guest.trace"
        self.wants: dict[str, bool] = {}
        self.helping = _with_helper(folder / "helping", fleet)
        self.bare = guests.with_workload(
            guests.boot_files("-channelnet", MODULES), fleethost.WORKLOAD, _folder(fleet, "bare")
        )

    def define(
        self, name: str, *, helper: bool = True, channel: bool = True, image: Path | None = None
    ) -> str:
        """Define a machine and return its UUID; with `image` its disk is there, for two hosts."""
        fleet = self.fleet
        fleet.boot = self.helping if helper else self.bare
        devices = hookhost.interface(mac_of(name)) + _RNG + (DEVICE if channel else "")
        path, ident = fleet.described(name, image or fleet.image(name, self.state), devices)
        if image:  # the host that it comes to goes on in its console, and begins none anew
            path.write_text(path.read_text().replace(".serial'/>", ".serial' append='on'/>"))
        xml = path.read_text().replace(f">{guests.MEMORY_MIB}</memory>", f">{MEMORY_MIB}</memory>")
        path.write_text(xml)
        fleet.virsh("define", str(path))
        return ident

    def policy(self, text: str) -> None:
        """Write the policy, and wait until the agent has taken it over."""
        mark = self.mark()
        self.fleet.policy(text)

        def taken(record: Any) -> list[str]:
            entries = record.log_entries(mark, 10_000)
            return [json.loads(entry.body)["digest"] for entry in entries if entry.kind == "policy"]

        self.fleet.wait(lambda: self.read(taken), "the policy is in force")
        self.wants[self.read(taken)[-1]] = text == REQUIRED

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run the guest service while the block runs, confined, with a trace; the agent finds it there."""
        address = Places.default(self.fleet.environment).guest_socket
        with listening(address) as listener, (self.fleet.folder / "guest.log").open("ab") as log:
            passed = listener.fileno()
            command = [*self.fleet.daemon.inside_network, str(PROGRAM), "guest-service"]
            command += ["--socket-fd", str(passed), "--trace", str(self.traced)]
            environment = self.fleet.environment
            process = subprocess.Popen(
                command, pass_fds=(passed,), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
            try:
                self.fleet.wait(lambda: answers(address), "the guest service answers")
                yield
            finally:
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
                for child in children.split():
                    os.kill(int(child), signal.SIGTERM)
                assert process.wait(timeout=60) == 0, Path(log.name).read_text(errors="replace")

    def events(self) -> list[trace.Event]:
        """Return what the guest service has written of its run so far."""
        return read_traces([self.traced])

    def wanted(self, policy: str, machine: str) -> bool:
        """Tell whether a policy of this host's wanted fresh randomness."""
        del machine
        return self.wants.get(policy, True)

    # What is on record

    def read(self, what: Any) -> Any:
        """Return what a function says of a transaction that reads."""
        with self.fleet.records() as records, records.reading() as record:
            return what(record)

    def execution(self, ident: str) -> Any:
        """Return a machine's latest execution."""
        return self.read(lambda record: record.own_executions(ident, 1)[-1])

    def is_fresh(self, ident: str) -> bool:
        """Tell whether the guest of the latest execution has confirmed a seed that was credited."""

        def fresh(record: Any) -> bool:
            (last,) = record.own_executions(ident, 1)
            found = record.reseed(last.eid)
            return found is not None and found.credited

        return bool(self.read(fresh))

    def waits(self, ident: str) -> bool:
        """Tell whether a machine's taps are held for nothing but its guest's confirmation."""
        holds = self.read(lambda record: record.holds([ident]))
        return [(hold.pending, hold.reseed) for hold in holds] == [(True, True)]

    def story(self, ident: str, since: int = 0) -> list[str]:
        """Return what the log has of a machine: "closed", "confirmed", "open", "alarm", in its order."""
        words = []
        for entry in self.read(lambda record: record.log_entries(since, 10_000, ident)):
            if entry.kind == "hold":
                words.append("closed" if '"held":true' in entry.body else "open")
            elif entry.kind in {"reseed", "alarm"}:
                words.append({"reseed": "confirmed"}.get(entry.kind, entry.kind))
        return [word for number, word in enumerate(words) if not number or words[number - 1] != word]

    def mark(self) -> int:
        """Return the number of the log's last entry."""
        return int(self.read(lambda record: record.log_head()[1]))


def _folder(fleet: FleetHost, name: str) -> Path:
    folder = fleet.daemon.images / name
    folder.mkdir()
    return folder


def _with_helper(folder: Path, fleet: FleetHost) -> guests.BootFiles:
    """Return boot files whose guest runs the helper beside what a fleet's guest does."""
    root = folder / "root"
    for file in channelguest.python_files():
        place = root / str(file).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    shutil.copy(channelguest.HELPER, root / "undercroft_guest.py")
    names = sorted(str(each.relative_to(root)) for each in root.rglob("*"))
    script = _HELPER + fleethost.WORKLOAD
    boot = guests.with_workload(guests.boot_files("-channelnet", MODULES), script, _folder(fleet, "helping"))
    boot.initrd.write_bytes(boot.initrd.read_bytes() + guests.archive(root, names))
    return boot


@contextmanager
def running(folder: Path) -> Iterator[ChannelHost]:
    """Run the libvirtd with the hook and a bridge; the agent is the test's to start."""
    with fleethost.running(folder) as fleet:
        yield ChannelHost(fleet, folder)


def missing() -> str:
    """Return why there can be no such host here, "" when there can."""
    return fleethost.missing() or channelguest.missing()
