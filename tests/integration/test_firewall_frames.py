"""Frames of rare forms in the kernel: each comes out where the policy says, and nowhere else."""

from firewallworld import FLEET, POLICY, ruleset
from netns import in_own_network
from wire import HOST, Wire

from undercroft.adapters.nftables import Nftables

WEB, DB = FLEET.ports[0], FLEET.ports[1]
PORTS = (*(port.tap for port in FLEET.ports), "eth0", "veth9", "vnet99")


def announcement(mac: bytes, operation: int = 3, padding: bytes = bytes(18)) -> bytes:
    """QEMU's announcement of a machine that goes on here: net/announce.c, announce_self_create."""
    said = b"\0\x01\x08\0\x06\x04" + operation.to_bytes(2, "big") + 2 * (mac + bytes(4))
    return b"\xff" * 6 + mac + b"\x80\x35" + said + padding


@in_own_network
def test_an_announcement_leaves_by_the_uplink_alone_and_only_in_its_exact_form() -> None:
    said = announcement(WEB.mac)
    others = (
        announcement(DB.mac),
        announcement(WEB.mac, operation=1),
        announcement(WEB.mac, padding=b"hello, quarantine!"),
        announcement(WEB.mac, padding=bytes(19)),
        announcement(WEB.mac, padding=bytes(17)),
    )
    with Nftables() as kernel, Wire(PORTS) as wire:
        assert all(wire.put(WEB.tap, frame)[DB.tap] == [frame] for frame in (said, *others))
        kernel.replace(ruleset(POLICY))
        assert wire.put(WEB.tap, said) == {"eth0": [said]}
        for frame in others:
            assert wire.put(WEB.tap, frame) == {}
        from_outside = announcement(bytes.fromhex("020000000001"))
        assert wire.put("eth0", from_outside) == {"veth9": [from_outside], HOST: [from_outside]}
