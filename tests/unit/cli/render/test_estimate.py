"""How long a scan may take is told only where that can be known."""

from undercroft.cli.render.estimate import Estimate
from undercroft.usecases.images.scanning import Done


def told(*steps: tuple[float, int], total: int = 1000) -> str:
    """Return the last of the words for images done at seconds."""
    estimate = Estimate()
    text = ""
    for second, done in steps:
        text = estimate.text(Done("reading", done, total, done << 30, total << 30, "web01.qcow2"), second)
    return text


def test_a_steady_pace_tells_how_long_it_takes() -> None:
    assert told(*((second, 2 * second) for second in range(21))) == (
        "reading web01.qcow2, 40.0 GiB of 1000.0 GiB, 2.0 a second, about 8 min left"
    )


def test_the_last_minute_is_not_counted_in_minutes() -> None:
    assert told(*((second, 2 * second) for second in range(480))).endswith(", less than a minute left")


def test_nothing_is_told_before_there_is_something_to_go_by() -> None:
    assert "left" not in told(*((second, 2 * second) for second in range(9)))
    assert "left" not in told(*((second, second) for second in range(19)))
    assert told((0, 0)) == "reading web01.qcow2"


def test_a_pace_that_has_changed_is_no_pace() -> None:
    """A base of many GiB took a minute, its thousand clones a second: nobody knows what comes next."""
    slow = [(float(second), second // 10) for second in range(200)]
    quick = [(200 + second / 10, 20 + second * 5) for second in range(20)]
    assert "left" not in told(*slow, *quick)


def test_images_that_stand_still_are_no_pace() -> None:
    assert "left" not in told((0, 0), (10, 50), *((float(second), 50) for second in range(11, 100)))


def test_another_phase_begins_anew() -> None:
    estimate = Estimate()
    for second in range(30):
        estimate.text(Done("looking", 100 * second, 10_000), second)
    assert "left" not in estimate.text(Done("reading", 0, 100), 31)
    assert "left" not in estimate.text(Done("reading", 50, 100), 32)
