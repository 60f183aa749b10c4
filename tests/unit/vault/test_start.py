"""The start of an epoch: power failures and disks put back, against every later state of the TPM."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.memorylog import MemoryLog
from tests.fakes.memorytpm import MemoryTpm
from tests.support.faultyfiles import FaultyFiles, MemoryFiles
from tests.support.vaultlab import KEY, Host, begun, increment, outcomes, seal, spend

from undercroft.adapters.vaultfile import VaultFile
from undercroft.channel.requests import Operation, Outcome, Request
from undercroft.errors import OperationError, StateError
from undercroft.vault import commands, engine
from undercroft.vault.answers import EPOCH_LIMIT, SPAN
from undercroft.vault.budget import SAVED_WRITES, SECONDS
from undercroft.vault.keeping import log_key
from undercroft.vault.start import ADOPTED_EPOCHS, Adoption

ADOPT = Adoption("the disk was lost")


@pytest.fixture(autouse=True)
def _small_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less room is taken from the disk beforehand: images are compared and copied by the hundred."""
    monkeypatch.setattr(engine, "_GROUP_BYTES", 32_768)
    monkeypatch.setattr(engine, "MARGIN_BYTES", 1_024)


@dataclass
class Told:
    """What guests were told up to some moment."""

    values: set[int] = field(default_factory=set)
    final: set[bytes] = field(default_factory=set)

    def copy(self) -> "Told":
        return Told(set(self.values), set(self.final))


@dataclass
class Moment:
    """One write boundary: what the disk has, what the TPM has, what was told."""

    image: dict[str, bytes]
    tpm: MemoryTpm
    told: Told


class Recorder(FaultyFiles):
    """Files that note the moment before each call that changes the disk, and after the TPM was written."""

    def __init__(self, files: MemoryFiles, tpm: MemoryTpm, told: Told, moments: list[Moment]) -> None:
        super().__init__(files)
        self._memory, self._tpm, self._told, self._moments = files, tpm, told, moments

    def _reach(self, what: str, halvable: bool = False) -> bool:
        self.note()
        return super()._reach(what, halvable)

    def note(self) -> None:
        self._moments.append(Moment(self._memory.image(), self._tpm.copy(), self._told.copy()))


class NotedTpm(MemoryTpm):
    """A TPM whose writes are boundaries too."""

    recorder: Recorder

    def increment(self) -> int:
        self.recorder.note()
        value = super().increment()
        self.recorder.note()
        return value

    def extend(self, head: bytes) -> bytes:
        self.recorder.note()
        held = super().extend(head)
        self.recorder.note()
        return held


def serve(
    files: MemoryFiles, tpm: MemoryTpm, told: Told, life: int, *, clean: bool, wrap: object = None
) -> None:
    """One life of the process: values, a final spend, values, a snapshot of the log."""
    log = VaultFile(wrap or files, log_key(KEY), room_bytes=256)  # type: ignore[arg-type]
    host = Host(log, tpm, execution=b"e%d" % life, snapshot_bytes=300)
    host.take()
    for each in range(2):
        [answer] = host.ask(increment(b"c"))
        told.values.add(int(answer[2]))
        token = b"t%d-%d" % (life, each)
        assert host.ask(spend(token, final=True)) == [(0, 2)]
        told.final.add(token)
        [answer] = host.ask(increment(b"c"))
        told.values.add(int(answer[2]))
    if clean:
        host.stop()


def lives() -> list[Moment]:
    moments: list[Moment] = []
    files, told, tpm = MemoryFiles(), Told(), NotedTpm()
    for life, clean in enumerate((False, True, False)):
        recorder = Recorder(files, tpm, told, moments)
        tpm.recorder = recorder
        serve(files, tpm, told, life, clean=clean, wrap=recorder)
        recorder.note()
    return moments


def begins(image: dict[str, bytes], tpm: MemoryTpm, told: Told) -> bool:
    """Whether a start takes the image; asserts that it is safe where it does."""
    try:
        log = VaultFile(MemoryFiles(image), log_key(KEY), room_bytes=256)
        host = Host(log, tpm, execution=b"after")
    except StateError:
        return False
    host.take()
    [answer] = host.ask(increment(b"c"))
    assert answer[2] not in told.values
    assert int(answer[2]) > max(told.values, default=0)
    for token in told.final:
        assert outcomes(host.ask(spend(token, final=True))) == [Outcome.REFUSED], token
    return True


def plain(tpm: MemoryTpm) -> MemoryTpm:
    copied = MemoryTpm(tpm.value)
    copied.held = tpm.held
    return copied


def test_every_earlier_disk_put_back_under_every_later_tpm_is_refused_or_safe() -> None:
    moments = lives()
    assert len(moments) > 60
    last = {(each.tpm.value, each.tpm.held): at for at, each in enumerate(moments)}
    taken = refused = 0
    for (
        late
    ) in last.values():  # of the moments of one state of the TPM, the last has told all that others have
        after, tried = moments[late], set()
        for each in moments[: late + 1]:
            image = frozenset(each.image.items())
            if image in tried:
                continue
            tried.add(image)
            if begins(each.image, plain(after.tpm), after.told):
                taken += 1
            else:
                refused += 1
    assert len(last) > 12
    assert taken > len(last)
    assert refused > 10 * len(last)


def test_a_power_failure_at_any_write_boundary_is_no_rollback() -> None:
    for moment in lives():
        assert begins(moment.image, plain(moment.tpm), moment.told)


def test_without_the_tpm_the_same_attack_repeats_values_and_spends_twice() -> None:
    """The control: it shows that the enumeration above finds what the TPM prevents."""
    files = MemoryFiles()
    log = VaultFile(files, log_key(KEY))
    host = begun(log)
    image = files.image()
    value = host.ask(increment(b"c"))[0][2]
    assert host.ask(spend(b"t", final=True)) == [(0, 1)]
    host = Host(VaultFile(MemoryFiles(image), log_key(KEY)))
    host.stop()
    assert host.ask(spend(b"t", final=True)) == [(0, 1)]
    values = {host.ask(increment(b"c"))[0][2]}
    host = begun(VaultFile(MemoryFiles(image), log_key(KEY)))
    values.add(host.ask(increment(b"c"))[0][2])
    again = begun(VaultFile(MemoryFiles(image), log_key(KEY)))
    assert again.ask(increment(b"c"))[0][2] in values
    assert isinstance(value, int)


@pytest.mark.parametrize("failing", range(1, 9))
def test_a_start_that_failed_at_any_point_is_continued_by_the_next(failing: int) -> None:
    class FailingTpm(MemoryTpm):
        left = failing

        def step(self) -> None:
            self.left -= 1
            if self.left == 0:
                raise OperationError("the TPM does not answer")

        def increment(self) -> int:
            self.step()
            value = super().increment()
            self.step()  # done, and nobody was told
            return value

        def extend(self, head: bytes) -> bytes:
            self.step()
            held = super().extend(head)
            self.step()
            return held

    log, tpm = MemoryLog(), FailingTpm()
    for _ in range(4):
        try:
            host = Host(log, tpm)
        except OperationError:
            log = log.image()
            continue
        host.take()
        host.ask(increment(b"c"))
        assert host.engine.history.epoch == tpm.value
        log = log.image()


def test_a_start_killed_at_each_write_of_the_disk_is_continued() -> None:
    calls = 0
    while True:
        calls += 1
        files, tpm = MemoryFiles(), MemoryTpm()
        faults = FaultyFiles(files, calls, "torn")
        try:
            Host(VaultFile(faults, log_key(KEY), room_bytes=64), tpm)
        except Exception:
            host = begun(VaultFile(MemoryFiles(files.image()), log_key(KEY), room_bytes=64), tpm)
            assert host.ask(increment(b"c"))[0][0] == 0
            continue
        break
    assert calls > 10


def test_a_log_that_is_gone_is_not_begun_anew_in_silence() -> None:
    tpm = MemoryTpm()
    begun(MemoryLog(), tpm)
    with pytest.raises(StateError, match="adopt"):
        Host(MemoryLog(), tpm)
    assert Host(MemoryLog(), tpm, adoption=ADOPT).take() == 0


def test_a_tpm_that_is_gone_exchanged_or_reset_is_not_taken_in_silence() -> None:
    tpm, log = MemoryTpm(), MemoryLog()
    host = begun(log, tpm)
    value = host.ask(increment(b"c"))[0][2]
    with pytest.raises(StateError, match="counted by a TPM"):
        Host(log.image())
    with pytest.raises(StateError, match="another TPM"):
        Host(log.image(), MemoryTpm(1))
    for other in (None, MemoryTpm(1), MemoryTpm(10_000_00)):
        adopted = begun(log.image(), other, adoption=ADOPT)
        assert int(adopted.ask(increment(b"c"))[0][2]) > int(value) + SPAN
        assert adopted.engine.history.epoch >= ADOPTED_EPOCHS
        again = Host(adopted.log.image(), other)  # type: ignore[attr-defined]
        assert again.engine.history.epoch == adopted.engine.history.epoch + 1


def test_an_adoption_needs_a_reason_and_is_on_record() -> None:
    tpm, log = MemoryTpm(), MemoryLog()
    begun(log, tpm)
    with pytest.raises(StateError):
        Host(MemoryLog(), tpm, adoption=Adoption(""))
    adopted = Host(MemoryLog(), tpm, adoption=ADOPT)
    assert any(b"the disk was lost" in record for group in adopted.log.read() for record in group.records)


@pytest.mark.parametrize(("key", "taken"), [(KEY, True), (b"x" * 32, False)])
def test_who_writes_the_disk_cannot_forge_an_order_to_adopt_without_the_key(key: bytes, taken: bool) -> None:
    """The control has the key: with a chain of plain hashes every writer of the disk would be it."""
    tpm, files = MemoryTpm(), MemoryFiles()
    host = begun(VaultFile(files, log_key(KEY)), tpm)
    earlier = MemoryFiles(files.image())
    assert host.ask(spend(b"t", final=True)) == [(0, 2)]
    log = VaultFile(MemoryFiles(earlier.image()), log_key(KEY))
    log._key = log_key(key)
    log._files = earlier
    log._at.handle = earlier.open("log-000000000001")
    log.append(
        [
            commands.write(commands.ADOPTED, "", 0, tpm.held, ""),
            commands.write(commands.INTENT, tpm.value, 0),
        ]
    )
    log.sync()
    if taken:
        assert Host(VaultFile(earlier, log_key(KEY)), tpm).ask(spend(b"t", final=True)) == [(0, 2)]
    else:
        with pytest.raises(StateError):
            Host(VaultFile(earlier, log_key(KEY)), tpm)


def test_an_adopted_rollback_says_that_what_was_lost_is_void() -> None:
    tpm, log = MemoryTpm(), MemoryLog()
    host = begun(log, tpm)
    image = log.image()
    version = int(host.ask(seal(b"s", 0, b"new"))[0][2])
    host.ask(spend(b"t", final=True))
    with pytest.raises(StateError):
        Host(image.image(), tpm)
    adopted = Host(image.image(), tpm, adoption=ADOPT)
    assert outcomes(adopted.ask(Request(Operation.UNSEAL, (b"s", version)))) == [Outcome.VOID]
    assert outcomes(adopted.ask(seal(b"s", version, b"newer"))) == [Outcome.VOID]
    assert outcomes(adopted.ask(Request(Operation.UNSEAL, (b"s", 0)))) == [Outcome.UNKNOWN]


def test_an_adopted_rollback_of_several_epochs_says_that_what_all_of_them_gave_is_void() -> None:
    """The log that is put back has never heard of them."""
    tpm, log = MemoryTpm(), MemoryLog()
    host = begun(log, tpm)
    host.stop()
    image = log.image()
    versions = []
    for each in range(3):
        host = Host(log, tpm, execution=b"x%d" % each)
        host.take()
        versions.append(int(host.ask(seal(b"s%d" % each, 0, b"new"))[0][2]))
        host.stop()
        log = log.image()
    adopted = begun(image, tpm, adoption=ADOPT, execution=b"after")
    again = Host(image.image(), tpm, execution=b"after", snapshot_bytes=10)
    for _ in range(2):
        again.ask(increment(b"c"))
    for each, version in enumerate(versions):
        for host in (adopted, again, Host(again.log.image(), tpm.copy(), execution=b"after")):  # type: ignore[attr-defined]
            asked = Request(Operation.UNSEAL, (b"s%d" % each, version))
            assert outcomes(host.ask(asked)) == [Outcome.VOID], (each, version // SPAN)
    assert outcomes(adopted.ask(Request(Operation.UNSEAL, (b"s0", SPAN + 1)))) == [Outcome.UNKNOWN]


def test_what_an_unclean_epoch_lost_behind_its_last_anchor_is_void_and_what_it_kept_stays() -> None:
    tpm, log = MemoryTpm(), MemoryLog()
    host = begun(log, tpm)
    host.ask(spend(b"t"))
    image = log.image()
    version = int(host.ask(seal(b"s", 0, b"new"))[0][2])
    again = Host(image, tpm)
    assert again.engine.history.voids == {2: 2}
    assert outcomes(again.ask(Request(Operation.UNSEAL, (b"s", version)), spend(b"t"))) == [
        Outcome.VOID,
        Outcome.REFUSED,
    ]


def test_an_epoch_that_ended_as_it_should_leaves_nothing_void() -> None:
    tpm, log = MemoryTpm(), MemoryLog()
    host = begun(log, tpm)
    host.ask(increment(b"c"))
    image = log.image()
    host.stop()
    assert Host(log.image(), tpm.copy()).engine.history.voids == {}
    with pytest.raises(StateError):  # an image from before the end lacks what the end anchored
        Host(image, tpm)


def test_a_host_that_gets_a_tpm_goes_on_above_its_epochs() -> None:
    log = MemoryLog()
    for each in range(7):
        host = Host(log, execution=b"e%d" % each)
        host.take()
        value = int(host.ask(increment(b"c"))[0][2])
        log = log.image()
    tpm = MemoryTpm(2)
    host = Host(log, tpm, execution=b"with")
    host.take()
    assert int(host.ask(increment(b"c"))[0][2]) > value
    assert Host(log.image(), tpm).engine.history.epoch == host.engine.history.epoch + 1


def test_a_counter_that_others_moved_is_refused() -> None:
    tpm, log = MemoryTpm(), MemoryLog()
    begun(log, tpm)
    tpm.increment()
    with pytest.raises(StateError, match="counter"):
        Host(log.image(), tpm)


def test_one_loss_that_is_adopted_twice_repeats_no_value() -> None:
    tpm, log = MemoryTpm(), MemoryLog()
    host = begun(log, tpm)
    image = log.image()
    host.ask(spend(b"t", final=True))
    values: list[int] = []
    for _ in range(3):
        adopted = begun(image.image(), tpm, adoption=ADOPT)
        values.append(int(adopted.ask(increment(b"c"))[0][2]))
        adopted.ask(spend(b"t", final=True))
    assert values == sorted(set(values))


@given(
    st.integers(0, 12),
    st.integers(1, 12),
    st.lists(st.tuples(st.booleans(), st.integers(0, 30), st.integers(0, 60)), min_size=1, max_size=25),
)
def test_whatever_is_put_back_and_adopted_an_epoch_comes_once(
    without: int, counter: int, steps: list[tuple[bool, int, int]]
) -> None:
    """Some starts without a TPM, then with one; from then on another image may be put back before each.

    And each may have to be above an epoch of another host's.
    """
    log, tpm, epochs = MemoryLog(), MemoryTpm(counter), []
    images = [log.image()]
    for _ in range(without):
        epochs.append(Host(log).engine.history.epoch)
        images.append(log.image())
    epochs.append(Host(log, tpm).engine.history.epoch)
    images.append(log.image())
    for put_back, which, above in steps:
        log = (images[which % len(images)] if put_back else log).image()
        epochs.append(Host(log, tpm, adoption=ADOPT, above=above).engine.history.epoch)
        assert epochs[-1] > above
        images.append(log.image())
    assert len(set(epochs)) == len(epochs)


@pytest.mark.parametrize("counted", [True, False])
def test_a_start_above_another_hosts_epoch_fits_at_the_next_and_its_earlier_disk_does_not(
    counted: bool,
) -> None:
    tpm, log = MemoryTpm() if counted else None, MemoryLog()
    before = begun(log, tpm)
    value = int(before.ask(increment(b"c"))[0][2])
    before.stop()
    image = log.image()
    lifted = begun(log.image(), tpm, above=70)
    assert lifted.engine.history.epoch > 70
    assert int(lifted.ask(increment(b"c"))[0][2]) > max(value, 71 * SPAN)
    assert not lifted.engine.history.voids
    again = Host(lifted.log.image(), tpm)  # type: ignore[attr-defined]
    assert again.engine.history.epoch == lifted.engine.history.epoch + 1
    if counted:
        with pytest.raises(StateError, match="adopt"):
            Host(image, tpm)


def test_an_epoch_beyond_the_last_is_refused_before_anything_is_written() -> None:
    """The cores refuse it: the vaults would go on in an epoch that was there before, or in none."""
    log, tpm = MemoryLog(), MemoryTpm(EPOCH_LIMIT - 1)
    with pytest.raises(StateError, match="epochs end"):
        Host(log, tpm)
    assert not log.groups
    assert tpm.value == EPOCH_LIMIT - 1
    host = begun(MemoryLog(), MemoryTpm(EPOCH_LIMIT - 2))
    assert int(host.ask(increment(b"c"))[0][2]) < 1 << 63


def test_a_service_that_dies_at_each_start_does_not_wear_the_tpm_out() -> None:
    class Failing(MemoryTpm):
        def extend(self, head: bytes) -> bytes:
            raise OperationError("the TPM does not answer")

    log, tpm, now = MemoryLog(), MemoryTpm(), [1_000_000]
    begun(log, tpm)
    owed = -SECONDS * (SAVED_WRITES - 20)
    log.append([commands.write(commands.ANCHOR, log.head, tpm.held, owed, now[0])])
    log.sync()
    failing = Failing(tpm.value)
    failing.held = tpm.held
    for _ in range(50):
        log = log.image()
        with pytest.raises(OperationError):
            Host(log, failing, clock=lambda: now[0])
    assert failing.writes <= 11
    with pytest.raises(OperationError, match="too often"):
        Host(log.image(), failing, clock=lambda: now[0])
    now[0] += 4 * SECONDS
    tpm.value = failing.value
    assert Host(log.image(), tpm, clock=lambda: now[0]).take() == 0
