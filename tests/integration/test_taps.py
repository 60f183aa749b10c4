"""Taps over netlink, in a network namespace of the test's own, with ip(8) as the oracle."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "--net", "true"], check=False).returncode != 0,
    reason="a network namespace needs root",
)

_BEFORE = """
import asyncio, json, subprocess
from undercroft.adapters import netlink
from undercroft.errors import NotFoundError, OperationError, InputError
def ip(*words):
    done = subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    return json.loads(done.stdout) if words[0] == "-j" else None
ip("link", "add", "lab0", "type", "bridge")
ip("link", "set", "lab0", "up")
ip("tuntap", "add", "vnet0", "mode", "tap")
ip("link", "set", "vnet0", "master", "lab0", "up")
def seen():
    (link,) = ip("-j", "link", "show", "vnet0")
    return [link.get("master", ""), "UP" in link["flags"]]
"""


def inside(script: str) -> list[object]:
    """Run a script in a new network namespace and return what it printed, line by line, as JSON."""
    command = ["unshare", "--net", sys.executable, "-c", _BEFORE + textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_tap_is_held_and_opened_again_as_ip_sees_it() -> None:
    found = inside(
        """
        print(json.dumps(seen()))
        held = netlink.hold("vnet0")
        print(json.dumps([held.tap, held.bridge, *seen()]))
        print(json.dumps([netlink.is_held("vnet0"), netlink.master_of("vnet0")]))
        netlink.open_tap(held)
        print(json.dumps([*seen(), netlink.is_held("vnet0"), netlink.master_of("vnet0")]))
        """
    )
    assert found == [
        ["lab0", True],
        ["vnet0", "lab0", "", False],
        [True, ""],
        ["lab0", True, False, "lab0"],
    ]


def test_a_held_tap_can_be_held_again() -> None:
    assert inside(
        """
        netlink.hold("vnet0")
        print(json.dumps([netlink.hold("vnet0").bridge, *seen()]))
        """
    ) == [["", "", False]]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("netlink.hold('vnet9')", "NotFoundError"),
        ("netlink.master_of('vnet9')", "NotFoundError"),
        ("netlink.open_tap(netlink.HeldTap('vnet0', 'lab9'))", "NotFoundError"),
        ("netlink.open_tap(netlink.HeldTap('vnet0', 'lo'))", "OperationError"),
        ("netlink.hold('x' * 16)", "InputError"),
        ("netlink.hold('')", "InputError"),
    ],
)
def test_what_cannot_be_done_is_told(call: str, error: str) -> None:
    (found,) = inside(
        f"""
        try:
            {call}
        except Exception as error:
            print(json.dumps(type(error).__name__))
        """
    )
    assert found == error


def test_a_tap_that_somebody_puts_back_is_noticed() -> None:
    found = inside(
        """
        async def main():
            netlink.hold("vnet0")
            changes = netlink.watch_links()
            first = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0)
            ip("link", "set", "vnet0", "master", "lab0")
            link = await asyncio.wait_for(first, 20)
            while not (link.name == "vnet0" and link.master):
                link = await asyncio.wait_for(anext(changes), 20)
            print(json.dumps([link.name, link.gone]))
            ip("link", "set", "vnet0", "nomaster")
            ip("link", "del", "vnet0")
            while not link.gone:
                link = await asyncio.wait_for(anext(changes), 20)
            print(json.dumps([link.name, link.gone]))
        asyncio.run(main())
        """
    )
    assert found == [["vnet0", False], ["vnet0", True]]
