"""Taps are shielded before QEMU runs, again when they were opened, and all of them with a new policy."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from agentlab import BRIDGE, HOST, NAME, QUICK, TAP, UUID
from filterlab import FilterLab, without_snapshots

from undercroft.agent.links import Links
from undercroft.errors import OperationError
from undercroft.firewall.fleet import Port

PORT = Port(UUID, NAME, TAP, bytes.fromhex("525400000001"), (), (), frozenset({"web"}), HOST)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in QUICK:
        monkeypatch.setattr(module, name, value)


class ShieldLab(FilterLab):
    """A host of which is kept what was shielded, and whether the tap was on its bridge then."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.shielded: list[tuple[str, bool]] = []
        self.failure = ""
        self.loosened: list[str] = []

    def _wired(self):  # type: ignore[no-untyped-def]
        server = super()._wired()
        self.firewall.labels.shield = self._shield
        return server

    def _shield(self, port: Port) -> None:
        if self.failure:
            raise OperationError(self.failure)
        if port.arriving:
            self.loosened.append(port.tap)
            return
        self.shielded.append((port.tap, not self.taps.is_held(port.tap)))


@pytest.fixture
def lab(tmp_path: Path) -> ShieldLab:
    return ShieldLab(tmp_path)


def test_a_tap_is_shielded_before_qemu_runs(lab: ShieldLab) -> None:
    lab.apply()
    without_snapshots(lab)

    async def scene() -> None:
        async with lab.running():
            await lab.until(lab.action, "it is known")
            lab.shielded.clear()
            assert await lab.start()
            assert (TAP, True) in lab.shielded

    asyncio.run(scene())


def test_a_tap_that_was_off_its_bridge_is_shielded_once_it_is_on_it_again(lab: ShieldLab) -> None:
    lab.apply()

    async def scene() -> None:
        async with lab.running():
            await lab.known()
            assert await lab.start()
            assert (TAP, True) not in lab.shielded
            await lab.until(lab.is_open, "it began as it was judged")
            await lab.until(lambda: (TAP, True) in lab.shielded, "it is shielded")

    asyncio.run(scene())


def test_a_tap_that_somebody_put_back_on_a_bridge_is_shielded_anew(lab: ShieldLab) -> None:
    """Off its bridge a port loses all its settings."""
    lab.apply()
    without_snapshots(lab)

    async def scene() -> None:
        async with lab.running():
            await lab.until(lab.action, "it is known")
            assert await lab.start()
            await lab.until(lab.is_proven, "it runs")
            lab.shielded.clear()
            Links(lab.host)._close("vnet7")
            assert lab.shielded == [], "that is no port of ours"
            Links(lab.host)._close(TAP)
            assert lab.shielded == [(TAP, True)]

    asyncio.run(scene())


def test_a_shield_that_fails_while_a_machine_starts_is_told_though_it_holds_soon_after(
    lab: ShieldLab,
) -> None:
    lab.apply()
    without_snapshots(lab)

    async def scene() -> None:
        async with lab.running():
            await lab.until(lab.action, "it is known")
            await lab.until(lab.is_proven, "a policy is in force")
            lab.failure = "the kernel refuses"
            await asyncio.to_thread(lab.taps.plug, TAP, BRIDGE)
            lab.firewall.labels._tell(UUID, (PORT,))
            lab.failure = ""
            assert any(f"{TAP} is not shielded: the kernel refuses" in line for line in lab.reports)

    asyncio.run(scene())


def test_a_tap_that_cannot_be_shielded_is_a_problem_of_the_host(lab: ShieldLab) -> None:
    without_snapshots(lab)

    async def scene() -> None:
        async with lab.running():
            await lab.until(lab.action, "it is known")
            assert await lab.start()
            await lab.until(lab.is_open, "it runs")
            lab.failure = "the kernel refuses"
            lab.apply()
            await lab.until(lambda: lab.state() is not None and lab.state().problem, "it is told")  # type: ignore[union-attr]
            state = lab.state()
            assert state is not None
            assert f"{TAP} is not shielded: the kernel refuses" in state.problem

    asyncio.run(scene())


def test_a_mac_whose_port_is_another_one_s_or_nobody_s_by_now_is_fixed_there_no_more(lab: ShieldLab) -> None:
    """What is for a machine that lives elsewhere would go to a tap that is not its own."""
    lab.apply()
    without_snapshots(lab)
    other = replace(PORT, machine="0a0b0c0d-0000-4000-8000-000000000002", mac=bytes.fromhex("525400000002"))

    async def scene() -> None:
        async with lab.running():
            await lab.until(lab.action, "it is known")
            assert await lab.start()
            await lab.until(lab.is_proven, "it runs")
            labels = lab.firewall.labels
            assert lab.loosened == []
            labels._tell(UUID, ())
            assert lab.loosened == [TAP]
            labels._tell(other.machine, (other,))
            labels.follow()
            seen = len(lab.loosened)
            assert seen >= 2, "the agent's own look may come between"
            await lab.stop()
            await lab.until(lambda: len(lab.loosened) > seen, "it is gone")
            assert await lab.start()
            await lab.until(lab.is_proven, "it runs again")
            lab.apply(None)
            await lab.until(lambda: not lab.has_table(), "it is withdrawn")
            await lab.until(lambda: len(lab.loosened) > seen + 1, "and its place is the bridge's to find")
            assert set(lab.loosened) == {TAP}

    asyncio.run(scene())
