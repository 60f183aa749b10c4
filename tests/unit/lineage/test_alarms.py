"""Two machines on one image: by its path, and by what its paths lead to."""

from dataclasses import replace

import fleetdata
import pytest
from fleetdata import HOST, NOW

from undercroft.lineage.alarms import Alarm, alarms
from undercroft.model.domain import Domain, Power, Survey

ONE, OTHER = "file 64769:1234", "file 64769:4321"


def _on(number: int, path: str, identity: str = "", **changes: object) -> Domain:
    disk = fleetdata.disk("x", path=path, identity=identity, **changes)
    return fleetdata.domain(number, f"m{number}", disks=(disk,))


def _raised(*domains: Domain) -> tuple[Alarm, ...]:
    return alarms((), Survey(HOST, "", NOW, domains))


def test_two_names_of_one_image_are_one_image() -> None:
    first, second = _on(1, "/i/a", ONE), _on(2, "/i/b", ONE)
    (alarm,) = _raised(first, second)
    assert (alarm.kind, alarm.machines) == ("shared-image", (first.uuid, second.uuid))
    assert alarm.reason == "m1 and m2 both run and write to /i/a, which is /i/b as well; stop one of them"


def test_two_images_are_two() -> None:
    assert _raised(_on(1, "/i/a", ONE), _on(2, "/i/b", OTHER)) == ()


@pytest.mark.parametrize("identities", [("", ""), (ONE, ""), (ONE, ONE), (ONE, OTHER)])
def test_one_path_is_one_image_and_told_once_whatever_is_known_of_it(identities: tuple[str, str]) -> None:
    (alarm,) = _raised(*(_on(number, "/i/a", known) for number, known in enumerate(identities, 1)))
    assert alarm.reason == "m1 and m2 both run and write to /i/a; stop one of them"


def test_what_nobody_could_look_at_is_nobodys_other_name() -> None:
    assert _raised(_on(1, "/i/a"), _on(2, "/i/b")) == ()
    assert _raised(_on(1, "/i/a", ONE), _on(2, "/i/b")) == ()


def test_each_pair_of_three_is_told() -> None:
    found = _raised(*(_on(number, f"/i/{number}", ONE) for number in (1, 2, 3)))
    names = {alarm.reason.partition(" both")[0] for alarm in found}
    assert names == {"m1 and m2", "m1 and m3", "m2 and m3"}


def test_a_machine_that_has_one_image_twice_is_no_two_machines() -> None:
    twice = (fleetdata.disk("x", path="/i/a", identity=ONE), fleetdata.disk("x", path="/i/b", identity=ONE))
    assert _raised(fleetdata.domain(1, "m1", disks=twice)) == ()


@pytest.mark.parametrize("meant", ["readonly", "shareable"])
def test_what_is_meant_to_be_shared_is_no_alarm(meant: str) -> None:
    assert _raised(_on(1, "/i/a", ONE), _on(2, "/i/b", ONE, **{meant: True})) == ()


def test_a_machine_that_is_off_shares_nothing() -> None:
    assert _raised(_on(1, "/i/a", ONE), replace(_on(2, "/i/b", ONE), power=Power.OFF)) == ()
