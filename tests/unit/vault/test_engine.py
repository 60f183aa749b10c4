"""The vaults' engine: what it answers, when, and that reading its log again gives the same state."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.memorylog import MemoryLog
from tests.fakes.memorytpm import MemoryTpm
from tests.support.vaultlab import KEY, MACHINE, Host, append, begun, increment, outcomes, seal, spend

from undercroft.adapters.durablefiles import FolderFiles
from undercroft.adapters.vaultfile import VaultFile
from undercroft.channel import cbor
from undercroft.channel.requests import Operation, Outcome, Request
from undercroft.errors import DamagedError, OperationError, StateError
from undercroft.vault import answers, desk, keeping, state
from undercroft.vault.answers import SPAN
from undercroft.vault.budget import SAVED_WRITES, SECONDS, SHARE_WRITES, Budget
from undercroft.vault.keeping import Keeping
from undercroft.vault.names import name_of, number_of

OTHER = b"o" * 16
DIGEST = bytes(range(32))


def test_a_name_s_number_is_its_own() -> None:
    names = [b"a", b"\0a", b"\0\0a", b"a\0", bytes(128), b"\xff" * 128, b"\0"]
    assert [name_of(number_of(name)) for name in names] == names
    assert len({number_of(name) for name in names}) == len(names)


def test_values_go_on_from_the_epoch_and_no_answer_leaves_before_its_group() -> None:
    host = begun(MemoryLog())
    assert host.ask(increment(b"c"), increment(b"c", 5), increment(b"c")) == [
        (0, 1, SPAN + 1),
        (0, 1, SPAN + 2),
        (0, 1, SPAN + 7),
    ]
    batch = host.engine.batch(MACHINE, b"e1", 4, [increment(b"c")])
    work = host.engine.close_group()
    assert host.engine.batch(MACHINE, b"e1", 5, [increment(b"c")]).answers == [(0, 1, SPAN + 9)]
    work.run(host.log, None)
    assert host.engine.release(work) == [batch]
    with pytest.raises(StateError):
        host.engine.release(work)


def test_the_same_number_has_the_same_answer_and_another_request_of_it_is_refused() -> None:
    host = begun(MemoryLog())
    requests = [increment(b"c"), spend(b"t"), append(b"l", 0, bytes(32), b"x"), seal(b"s", 0, b"secret")]
    first = host.ask(*requests, first=1)
    groups = len(host.log.image().groups)  # type: ignore[attr-defined]
    assert host.ask(*requests, first=1) == first
    assert len(host.log.image().groups) == groups  # type: ignore[attr-defined]
    assert outcomes(host.ask(increment(b"c", 2), spend(b"u"), first=1)) == [Outcome.MALFORMED] * 2
    assert outcomes(host.ask(spend(b"t"))) == [Outcome.REFUSED]


def test_a_ledger_goes_on_from_the_head_that_it_answered() -> None:
    host = begun(MemoryLog())
    [(_, _, height, head)] = host.ask(append(b"l", 0, bytes(32), b"one"))
    assert height == 1
    assert outcomes(host.ask(append(b"l", 0, bytes(32), b"fork"))) == [Outcome.REFUSED]
    [(_, _, height, second)] = host.ask(append(b"l", 1, bytes(head), b"two"))  # type: ignore[arg-type]
    nonce = b"n" * 16
    assert host.ask(Request(Operation.LATEST, (b"l", nonce))) == [(0, 1, 2, second, b"two", nonce)]


def test_a_sealed_blob_comes_back_in_its_version_and_lies_encrypted(tmp_path: Path) -> None:
    files = FolderFiles(tmp_path)
    host = begun(VaultFile(files, keeping.log_key(KEY)))
    [(_, _, version)] = host.ask(seal(b"s", 0, b"the secret of it"))
    assert host.ask(Request(Operation.UNSEAL, (b"s", 0))) == [(0, 1, version, b"the secret of it")]
    assert outcomes(host.ask(seal(b"s", 0, b"over it"), Request(Operation.UNSEAL, (b"s", 7)))) == [
        Outcome.REFUSED,
        Outcome.REFUSED,
    ]
    host.ask(Request(Operation.PUBLIC, (b"key",)))
    assert all(b"the secret of it" not in path.read_bytes() for path in tmp_path.iterdir())
    host.log.close()
    files.release()
    host = Host(VaultFile(FolderFiles(tmp_path), keeping.log_key(KEY)))
    assert host.ask(Request(Operation.UNSEAL, (b"s", version))) == [(0, 1, version, b"the secret of it")]


def test_what_is_kept_opens_for_its_own_machine_and_name_alone() -> None:
    keep = Keeping(KEY, os.urandom)
    kept = keep.encrypt(b"secret", MACHINE, b"a")
    assert keep.decrypt(kept, MACHINE, b"a") == b"secret"
    for wrong in (
        lambda: keep.decrypt(kept, OTHER, b"a"),
        lambda: keep.decrypt(kept, MACHINE, b"b"),
        lambda: Keeping(b"x" * 32, os.urandom).decrypt(kept, MACHINE, b"a"),
        lambda: keep.decrypt(kept[:-1] + bytes([kept[-1] ^ 1]), MACHINE, b"a"),
    ):
        with pytest.raises(DamagedError):
            wrong()


def test_contents_whose_nonces_of_96_bits_would_meet_have_keys_of_their_own() -> None:
    """A guest may seal more often than one key of AES-GCM bears; two under one nonce give each other away."""

    def draw(size: int) -> bytes:
        return (bytes(12) + os.urandom(size))[:size]

    keep = Keeping(KEY, draw)
    one, two = (keep.encrypt(bytes([each]) * 32, MACHINE, b"a") for each in (1, 2))
    assert bytes(a ^ b for a, b in zip(one[-48:-16], two[-48:-16], strict=True)) != bytes([3]) * 32
    assert keep.decrypt(one, MACHINE, b"a") == bytes([1]) * 32


def test_equal_contents_of_two_machines_or_names_do_not_look_alike_on_the_disk() -> None:
    keep = Keeping(KEY, os.urandom)
    owners = ((MACHINE, b"a"), (OTHER, b"a"), (MACHINE, b"b"))
    assert len({keep.digest(b"secret", *owner) for owner in owners}) == 3
    assert keep.digest(b"secret", MACHINE, b"a") == keep.digest(b"secret", MACHINE, b"a")


def test_signatures_are_of_a_key_that_stays_over_restarts_and_ends_when_revoked() -> None:
    log = MemoryLog()
    host = begun(log)
    host.engine.make_key(MACHINE, b"p256", keeping.ECDSA_P256)
    assert outcomes(host.ask(Request(Operation.SIGN, (b"new", DIGEST)))) == [Outcome.UNKNOWN]
    [(_, _, plain), (_, _, curve)] = host.ask(
        Request(Operation.PUBLIC, (b"new",)), Request(Operation.PUBLIC, (b"p256",))
    )
    host = Host(log.image())
    signs = [Request(Operation.SIGN, (name, DIGEST)) for name in (b"new", b"p256")]
    [(_, _, one), (_, _, two)] = host.ask(*signs)
    for public, signature in ((plain, one), (curve, two)):
        assert isinstance(public, bytes)
        assert isinstance(signature, bytes)
        key = load_der_public_key(public)
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, DIGEST)
        else:
            assert isinstance(key, ec.EllipticCurvePublicKey)
            key.verify(signature, DIGEST, ec.ECDSA(Prehashed(SHA256())))
            with pytest.raises(InvalidSignature):
                key.verify(signature, bytes(32), ec.ECDSA(Prehashed(SHA256())))
    host.ask(Request(Operation.REVOKE, (b"new",)))
    assert outcomes(host.ask(*signs)) == [Outcome.REFUSED, Outcome.OK]
    with pytest.raises(StateError):
        host.engine.make_key(MACHINE, b"p256", keeping.ED25519)


def test_a_guard_asks_the_revoked_set_which_only_grows() -> None:
    host = begun(MemoryLog())
    guard = Request(Operation.GUARD, (b"alice",))
    assert host.ask(guard) == [(0, 1, True)]
    assert host.ask(Request(Operation.REVOKE, (b"alice",)), guard) == [(0, 1), (0, 1, False)]
    assert Host(host.log.image()).ask(guard) == [(0, 1, False)]  # type: ignore[attr-defined]


def test_one_execution_holds_the_fence_and_the_others_are_told() -> None:
    host = begun(MemoryLog())
    host.ask(increment(b"c"))
    assert host.take(execution=b"fork", forked=True) == answers.HELD
    asked = (increment(b"c"), Request(Operation.COUNTER, (b"c",)), Request(Operation.RANDOM, (8,)))
    assert outcomes(host.ask(*asked, execution=b"fork")) == [Outcome.FENCED, Outcome.FENCED, Outcome.OK]
    assert host.take(execution=b"next") == answers.DONE
    assert outcomes(host.ask(increment(b"c"))) == [Outcome.FENCED]
    assert host.engine.next_request(MACHINE) == 1
    assert host.ask(increment(b"c"), execution=b"next") == [(0, 1, SPAN + 2)]
    assert host.take() == answers.LOST
    again = Host(host.log.image(), execution=b"next")  # type: ignore[attr-defined]
    assert again.take() == answers.DONE
    assert again.take(execution=b"e1") == answers.LOST
    assert again.engine.end(MACHINE, b"next") == answers.DONE
    assert again.take(execution=b"late fork", forked=True) == answers.DONE


def test_machines_have_nothing_of_each_other() -> None:
    host = begun(MemoryLog())
    host.take(OTHER, b"o1")
    host.ask(spend(b"t"), seal(b"s", 0, b"mine"))
    assert outcomes(host.ask(increment(b"c"), machine=OTHER)) == [Outcome.FENCED]
    asked = (spend(b"t"), Request(Operation.UNSEAL, (b"s", 0)))
    assert outcomes(host.ask(*asked, machine=OTHER, execution=b"o1")) == [Outcome.OK, Outcome.UNKNOWN]


def test_a_disk_that_fails_ends_the_engine_and_loses_nothing_acknowledged() -> None:
    log = MemoryLog()
    host = begun(log)
    assert host.ask(increment(b"c")) == [(0, 1, SPAN + 1)]
    log.fail_next = True
    assert outcomes(host.ask(increment(b"c"))) == [Outcome.FAILED]
    assert host.engine.failed
    assert outcomes(host.engine.batch(MACHINE, b"e1", 9, [increment(b"c")]).answers) == [Outcome.FAILED]
    image = log.image()
    image.fail_next = False
    assert Host(image).ask(increment(b"c"), first=1) == [(0, 1, SPAN + 1)]


def test_a_full_disk_changes_nothing_and_reads_go_on() -> None:
    log = MemoryLog()
    host = begun(log)
    host.ask(increment(b"c"))
    log.room = 0
    host.group()
    before = host.state()
    contents = (increment(b"c"), spend(b"t"), seal(b"s", 0, b"x"), Request(Operation.REVOKE, (b"r",)))
    for _ in range(2):
        assert outcomes(host.ask(*contents)) == [Outcome.FAILED] * 4
    assert host.ask(Request(Operation.COUNTER, (b"c",))) == [(0, 1, SPAN + 1)]
    assert host.state() == before
    assert not host.engine.failed
    log.room = 1 << 30
    host.group()
    assert host.ask(increment(b"c")) == [(0, 1, SPAN + 2)]


def test_a_group_takes_no_more_than_it_has_room_for() -> None:
    host = begun(MemoryLog())
    content = bytes(32_000)
    busy = 0
    for number in range(1, 300):
        batch = host.engine.batch(MACHINE, b"e1", number, [seal(b"s%d" % number, 0, content)])
        busy += outcomes(batch.answers) == [Outcome.BUSY]
    host.group()
    assert 0 < busy < 250
    assert not host.engine.failed
    assert Host(host.log.image()).state()[1:]  # type: ignore[attr-defined]


def test_a_batch_of_the_largest_contents_fits_records(monkeypatch: pytest.MonkeyPatch) -> None:
    host = begun(MemoryLog())
    requests = [seal(b"s" * 128 + b"%d" % 0, 0, b"")] * 0
    requests += [seal(b"%0128d" % each, 0, bytes(32_768)) for each in range(20)]
    requests += [append(b"%0128d" % each, 0, bytes(32), bytes(4_096)) for each in range(44)]
    assert outcomes(host.ask(*requests)) == [Outcome.OK] * 64
    assert Host(host.log.image()).engine.history.vaults[MACHINE].kept_bytes > 20 * 32_768  # type: ignore[attr-defined]


def test_whatever_fits_one_frame_of_a_guest_fits_records_and_is_read_again() -> None:
    """Names, digests and what encryption adds stand in a record beside the contents."""
    host = begun(MemoryLog())
    requests = [seal(b"%0128d" % each, 0, bytes(380)) for each in range(63)] + [seal(b"z", 0, bytes(32_768))]
    frame = cbor.encode([5, 1, [[int(each.operation), *each.arguments] for each in requests]])
    assert len(frame) < 65_536 - 80
    assert outcomes(host.ask(*requests)) == [Outcome.OK] * 64
    assert Host(host.log.image()).state()[1:] == host.state()[1:]  # type: ignore[attr-defined]


def test_a_vault_that_is_full_of_names_or_contents_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MAX_NAMES", 5)
    monkeypatch.setattr(desk, "MAX_KEPT_BYTES", 100)
    host = begun(MemoryLog())
    assert outcomes(host.ask(*(increment(b"c%d" % each) for each in range(5)))) == [Outcome.OK] * 5
    asked = (increment(b"c9"), spend(b"t"), increment(b"c0"), Request(Operation.PUBLIC, (b"k",)))
    assert outcomes(host.ask(*asked)) == [Outcome.REFUSED, Outcome.REFUSED, Outcome.OK, Outcome.UNKNOWN]
    monkeypatch.setattr(desk, "MAX_NAMES", state.MAX_NAMES)
    assert outcomes(host.ask(seal(b"s", 0, bytes(90)))) == [Outcome.REFUSED]


REQUESTS = st.lists(
    st.lists(
        st.one_of(
            st.builds(increment, st.sampled_from([b"a", b"b", b"\0"]), st.integers(1, 1 << 20)),
            st.builds(
                lambda name, final: spend(name, final=final), st.sampled_from([b"a", b"b"]), st.booleans()
            ),
            st.builds(append, st.just(b"l"), st.integers(0, 2), st.just(bytes(32)), st.binary(max_size=9)),
            st.builds(
                seal, st.sampled_from([b"a", b"b"]), st.sampled_from([0, SPAN + 1]), st.binary(max_size=9)
            ),
            st.builds(lambda name: Request(Operation.REVOKE, (name,)), st.sampled_from([b"a", b"k"])),
            st.builds(lambda name: Request(Operation.PUBLIC, (name,)), st.sampled_from([b"a", b"k"])),
            st.just(Request(Operation.COUNTER, (b"a",))),
        ),
        min_size=1,
        max_size=8,
    ),
    max_size=8,
)


@settings(max_examples=50)
@given(REQUESTS, st.lists(st.integers(0, 6), max_size=8), st.booleans())
def test_reading_the_log_again_gives_the_same_state_with_snapshots_too(
    batches: list[list[Request]], back: list[int], small: bool
) -> None:
    tpm = MemoryTpm()
    host = begun(MemoryLog(), tpm, snapshot_bytes=200 if small else 1 << 26)
    for at, requests in enumerate(batches):
        first = max(1, host.engine.next_request(MACHINE) - (back[at] if at < len(back) else 0))
        host.ask(*requests, first=first)
        if at == 4:
            host.take(execution=b"e2")
            host.execution = b"e2"
    vault = host.engine.history.vaults[MACHINE]
    kept = vault.core.epoch
    again = Host(host.log.image(), tpm, execution=host.execution)  # type: ignore[attr-defined]
    found = again.engine.history.vaults[MACHINE]
    found.core.epoch, found.core.changes, vault.core.changes = kept, 0, 0
    assert set(again.state()) == set(host.state())
    assert found.kept_bytes == vault.kept_bytes


def test_a_final_spend_leaves_with_its_anchor_and_what_comes_again_too() -> None:
    tpm = MemoryTpm()
    host = begun(MemoryLog(), tpm)
    writes = tpm.writes
    assert host.ask(spend(b"a", final=True), spend(b"b"), first=1) == [(0, 2), (0, 1)]
    assert tpm.writes == writes + 1
    assert host.ask(spend(b"a", final=True), first=1) == [(0, 2)]
    assert tpm.writes == writes + 1
    assert outcomes(host.ask(spend(b"a", final=True))) == [Outcome.REFUSED]


def test_a_final_spend_whose_anchor_failed_is_no_success_and_gets_its_anchor_when_it_comes_again() -> None:
    tpm = MemoryTpm()
    host = begun(MemoryLog(), tpm)
    tpm.fail_extend = True
    assert outcomes(host.ask(spend(b"a", final=True), increment(b"c"), first=1)) == [
        Outcome.FAILED,
        Outcome.OK,
    ]
    held = tpm.held
    assert host.ask(spend(b"a", final=True), first=1) == [(0, 2)]
    assert tpm.held != held


def test_without_a_tpm_a_final_spend_says_that_it_is_only_synced() -> None:
    host = begun(MemoryLog())
    assert host.ask(spend(b"a", final=True)) == [(0, 1)]
    assert "no TPM" in str(host.ask(Request(Operation.STATUS, ()))[0][2])


def test_one_guest_does_not_wear_the_tpm_out_and_leaves_others_their_share() -> None:
    tpm, now = MemoryTpm(), [1_000_000]
    host = begun(MemoryLog(), tpm, clock=lambda: now[0])
    host.take(OTHER, b"o1")
    writes = tpm.writes
    found = [outcomes(host.ask(spend(b"%d" % each, final=True)))[0] for each in range(SHARE_WRITES + 5)]
    assert found == [Outcome.OK] * SHARE_WRITES + [Outcome.BUSY] * 5
    assert tpm.writes == writes + SHARE_WRITES
    assert host.ask(spend(b"t", final=True), machine=OTHER, execution=b"o1") == [(0, 2)]
    now[0] += SECONDS
    assert outcomes(host.ask(spend(b"x", final=True), spend(b"y", final=True))) == [Outcome.OK] * 2
    assert outcomes(host.ask(spend(b"z", final=True))) == [Outcome.BUSY]


def test_many_guests_that_use_up_their_shares_leave_the_others_some() -> None:
    host = begun(MemoryLog(), MemoryTpm())
    hostile = [b"%016d" % each for each in range(20)]
    for machine in hostile:
        host.take(machine, b"x")
        for each in range(SHARE_WRITES):
            host.ask(spend(b"%d" % each, final=True), machine=machine, execution=b"x")
    last = host.ask(spend(b"more", final=True), machine=hostile[-1], execution=b"x")
    assert outcomes(last) == [Outcome.BUSY]
    assert not str(last[0][2]).endswith(" 0 s")
    for each in range(20):
        assert host.ask(spend(b"t%d" % each, final=True)) == [(0, 2)]


def test_the_budget_of_writes_survives_restarts() -> None:
    tpm, now = MemoryTpm(), [1_000_000]
    log = MemoryLog()
    for start in range(3):
        host = Host(log, tpm, clock=lambda: now[0])
        host.take(execution=b"e%d" % start)
        host.execution = b"e%d" % start
        for each in range(4):
            host.ask(spend(b"%d %d" % (start, each), final=True))
        host.group()
        log = log.image()
    assert host.engine.history.budget.writes == SAVED_WRITES - 3 * (4 + 2)


def test_what_changed_is_anchored_after_a_while_from_what_is_saved_beyond_half() -> None:
    tpm, now = MemoryTpm(), [1_000_000]
    host = begun(MemoryLog(), tpm, clock=lambda: now[0])
    host.ask(increment(b"c"))
    writes = tpm.writes
    for _ in range(20):
        now[0] += 10
        host.group()
    assert tpm.writes == writes + 1
    host.engine.history.budget = Budget(SECONDS * 5, now[0])
    host.ask(increment(b"c"))
    now[0] += 100
    host.group()
    assert tpm.writes == writes + 1


def test_another_program_that_extends_the_index_is_found_out() -> None:
    tpm = MemoryTpm()
    host = begun(MemoryLog(), tpm)
    tpm.extend(bytes(32))
    assert outcomes(host.ask(spend(b"a", final=True))) == [Outcome.FAILED]
    assert "another program" in host.engine.failed


class DoubtfulTpm(MemoryTpm):
    """A TPM whose extensions take place, and whose answers get lost; it may be silent for a while after."""

    lose: int = 0
    silent: int = 0

    def extend(self, head: bytes) -> bytes:
        held = super().extend(head)
        if self.lose:
            self.lose -= 1
            raise OperationError("the TPM's answer was lost")
        return held

    def extended(self) -> bytes:
        if self.silent:
            self.silent -= 1
            raise OperationError("the TPM does not answer")
        return super().extended()


@pytest.mark.parametrize("silent", [0, 1, 2])
@pytest.mark.parametrize("anew", [False, True])
def test_an_anchor_that_took_place_without_an_answer_is_no_other_program_s(silent: int, anew: bool) -> None:
    tpm = DoubtfulTpm()
    host = begun(MemoryLog(), tpm, snapshot_bytes=1 if anew else 1 << 26)
    tpm.lose, tpm.silent = 1, silent
    first = host.ask(spend(b"a", final=True), first=1)
    assert outcomes(first) == [Outcome.FAILED if silent else Outcome.OK]
    for _ in range(silent):
        assert outcomes(host.ask(spend(b"a", final=True), first=1)) in ([Outcome.FAILED], [Outcome.OK])
    assert host.ask(spend(b"a", final=True), first=1) == [(0, 2)]
    assert host.ask(spend(b"b", final=True)) == [(0, 2)]
    assert not host.engine.failed
    host.group()
    assert Host(host.log.image(), tpm).engine.history.epoch == tpm.value  # type: ignore[attr-defined]


@pytest.mark.parametrize("anew", [False, True])
def test_a_crash_after_an_anchor_without_an_answer_is_continued_by_a_start(anew: bool) -> None:
    """Wherever it ends, the index fits the log: an honest host is not asked to adopt a loss."""
    for silent in range(4):
        for asked in range(1, 5):
            tpm = DoubtfulTpm()
            host = begun(MemoryLog(), tpm, snapshot_bytes=1 if anew else 1 << 26)
            tpm.lose, tpm.silent = 1, silent
            for each in range(asked):
                host.ask(spend(b"%d" % each, final=True), increment(b"c"))
            tpm.silent = 0
            assert not host.engine.failed
            Host(host.log.image(), tpm)  # type: ignore[attr-defined]


class NoRoomForTwo(MemoryLog):
    """A log that its disk has room for once."""

    tried: int = 0

    def snapshot(self, records: Iterable[bytes]) -> None:
        self.tried += 1
        raise OperationError("the vaults' log cannot be written anew: no space left on device")


def test_a_snapshot_that_failed_is_not_tried_again_with_each_group() -> None:
    """Each try writes all vaults' state: a full disk would hold up everybody for that long at each answer."""
    log = NoRoomForTwo()
    host = begun(log, snapshot_bytes=1_000)
    for _ in range(40):
        host.ask(increment(b"n" * 100))
    assert log.grown_bytes > 3_000
    assert 2 <= log.tried <= 6


def test_a_log_begins_anew_when_it_has_grown_by_as_much_as_its_state_has() -> None:
    """Guests that fill their vaults would else have all of it written again and again."""
    host = begun(MemoryLog(), snapshot_bytes=1_000)
    for each in range(20):
        host.ask(seal(b"s%d" % each, 0, bytes(5_000)))
    made = []
    for _ in range(500):
        before = host.log.grown_bytes
        host.ask(increment(b"n" * 100))
        made += [before] if host.log.grown_bytes < before else []
    assert len(made) <= 1, "60 kB of increments do not have 100 kB of contents written anew each time"
