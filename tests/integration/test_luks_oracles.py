"""Encrypted volumes byte for byte: encrypted by cryptsetup and qemu-img, read here.

cryptsetup encrypts LUKS2 itself, qemu-img LUKS1 and qcow2's LUKS; what is made by hand in the unit tests is
shown to be what cryptsetup takes for LUKS.
"""

import os
import shutil
import subprocess
from pathlib import Path
from random import Random

import pytest
from diskimages import MIB, make_varied_raw, opened, run
from luksimages import (
    PASSPHRASE,
    QUICK_ARGON2,
    QUICK_PBKDF2,
    encrypt,
    encrypted1,
    encrypted2,
    encrypted_qcow2,
    format_volume,
    key_file,
    keys,
    volume_key,
)
from luksmaker import PASSPHRASE as MADE_PASSPHRASE
from luksmaker import Luks1, Luks2
from machineimages import debian_tree, packages

from undercroft.disks import luks, qcow2
from undercroft.disks.detect import detect
from undercroft.disks.keys import Key, Keys
from undercroft.disks.opening import open_volumes
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_varied_raw(tmp_path_factory.mktemp("plain") / "plain.raw", 6 * MIB)


def assert_data(disk: BlockSource, plain: Path) -> None:
    content = plain.read_bytes()
    assert disk.read(0, len(content)) == content
    random = Random(5)
    for _ in range(100):
        offset = random.randrange(len(content))
        length = random.randrange(min(50_000, len(content) - offset))
        assert disk.read(offset, length) == content[offset : offset + length]


@pytest.mark.parametrize(
    "options",
    [
        ("--sector-size", "512", *QUICK_ARGON2),
        ("--sector-size", "4096", *QUICK_ARGON2),
        ("--sector-size", "2048", "--pbkdf", "argon2i", *QUICK_ARGON2),
        ("--sector-size", "512", "--hash", "sha512", *QUICK_PBKDF2),
        ("--sector-size", "512", "--cipher", "aes-cbc-essiv:sha256", "--key-size", "256", *QUICK_PBKDF2),
        ("--sector-size", "1024", "--key-size", "256", *QUICK_PBKDF2),
    ],
)
def test_luks2_is_read_as_cryptsetup_encrypted_it(
    plain: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    with opened(encrypted2(plain, tmp_path / "volume", *options)) as volume:
        assert_data(luks.open_volume(volume, keys()), plain)


@pytest.mark.parametrize(
    "options",
    [
        ("--cipher", "aes-xts-plain64", "--key-size", "512", "--hash", "sha256"),
        ("--cipher", "aes-xts-plain64", "--key-size", "256", "--hash", "sha1"),
        ("--cipher", "aes-cbc-essiv:sha256", "--key-size", "256", "--hash", "sha512"),
        ("--cipher", "aes-cbc-plain64", "--key-size", "128", "--hash", "sha256"),
    ],
)
def test_luks1_is_read_as_qemu_encrypted_it(plain: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    with opened(encrypted1(plain, tmp_path / "volume", *options)) as volume:
        assert_data(luks.open_volume(volume, keys()), plain)


def test_the_volumes_key_is_the_one_that_cryptsetup_prints(tmp_path: Path) -> None:
    path = format_volume(tmp_path / "volume")
    with opened(path) as volume:
        assert luks.volume_key(volume, luks.read_header(volume), keys()) == volume_key(path)


def test_data_that_was_encrypted_by_hand_with_that_key_is_read(plain: Path, tmp_path: Path) -> None:
    path = format_volume(tmp_path / "volume", size_bytes=24 * MIB)
    content = plain.read_bytes()
    with opened(path) as volume:
        segment = luks.read_header(volume).segment
    with path.open("r+b") as file:
        file.seek(segment.offset)
        file.write(encrypt(volume_key(path), content, segment.sector_bytes))
    with opened(path) as volume:
        assert_data(luks.open_volume(volume, keys()), plain)


def test_every_keyslot_opens_with_its_own_passphrase(tmp_path: Path) -> None:
    path = format_volume(tmp_path / "volume")
    new = tmp_path / "new"
    for number in range(3):
        new.write_bytes(b"further %d" % number)
        run("cryptsetup", "luksAddKey", "-q", "--key-file", tmp_path / "key", *QUICK_PBKDF2, path, new)
    with opened(path) as volume:
        own = luks.volume_key(volume, luks.read_header(volume), keys())
        for number in range(3):
            found = luks.volume_key(volume, luks.read_header(volume), keys(b"further %d" % number))
            assert found == own
    run("cryptsetup", "luksKillSlot", "-q", "--key-file", tmp_path / "key", path, "1")
    with opened(path) as volume, pytest.raises(InputError, match="3 keyslots tried"):
        luks.open_volume(volume, keys(b"further 0"))


def test_a_key_file_of_random_bytes_opens(tmp_path: Path) -> None:
    secret = Random(4).randbytes(4000) + b"\n"
    path = format_volume(tmp_path / "volume", secret=secret)
    with opened(path) as volume:
        assert luks.open_volume(volume, keys(secret)).size_bytes == 4 * MIB


def test_a_first_header_that_is_gone_is_replaced_by_the_second(tmp_path: Path) -> None:
    path = format_volume(tmp_path / "volume")
    with path.open("r+b") as file:
        file.write(bytes(16384))
    with opened(path) as volume:
        assert detect(volume).kind == "luks2"
        found = luks.read_header(volume)
        assert "the second one was used" in found.notes[0]
        key = luks.volume_key(volume, found, keys())
    run("cryptsetup", "luksDump", path)  # cryptsetup takes the second one too, and repairs the first
    with opened(path) as volume:
        repaired = luks.read_header(volume)
        assert (repaired.notes, luks.volume_key(volume, repaired, keys())) == ((), key)


def test_a_detached_header_is_refused_by_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(bytes(4 * MIB))
    header = tmp_path / "header"
    header.write_bytes(bytes(16 * MIB))
    key = key_file(tmp_path)
    run("cryptsetup", "luksFormat", "-q", *QUICK_ARGON2, "--key-file", key, "--header", header, data)
    with opened(header) as volume, pytest.raises(UnsupportedError, match="detached header"):
        luks.open_volume(volume, keys())


def test_a_reencryption_in_progress_is_refused_by_name(plain: Path, tmp_path: Path) -> None:
    path = encrypted2(plain, tmp_path / "volume")
    run("cryptsetup", "reencrypt", "--init-only", "-q", "--key-file", tmp_path / "key", *QUICK_ARGON2, path)
    with opened(path) as volume, pytest.raises(UnsupportedError, match="a reencryption is in progress"):
        luks.open_volume(volume, keys())


# What the unit tests make by hand is LUKS


@pytest.mark.parametrize(
    "made",
    [
        Luks1(stripes=4000, iterations=1000, digest_iterations=1000),
        Luks1(stripes=4000, cipher="aes-cbc-essiv:sha256", key=bytes(32), iterations=1000),
        Luks2(stripes=4000, kdf={"type": "pbkdf2", "hash": "sha256", "iterations": 1000}),
        Luks2(stripes=4000, kdf={"type": "argon2i", "time": 4, "memory": 64, "cpus": 1}),
    ],
)
def test_cryptsetup_opens_what_is_made_by_hand(made: Luks1 | Luks2, tmp_path: Path) -> None:
    path = tmp_path / "volume"
    path.write_bytes(made.build())
    key = key_file(tmp_path, MADE_PASSPHRASE)
    tried = subprocess.run(
        ["cryptsetup", "open", "--test-passphrase", "--key-file", key, path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert tried.returncode == 0, tried.stderr


# qcow2


def _luks_qcow2(path: Path, plain: Path, *options: str) -> None:
    key_file(path.parent)
    chosen = ",".join(("encrypt.format=luks", "encrypt.key-secret=key", "encrypt.iter-time=50", *options))
    command = ("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", chosen)
    secret = ("--object", f"secret,id=key,file={path.parent / 'key'}")
    for _ in range(20):  # qemu-img cannot measure its own speed on a busy machine now and then
        done = subprocess.run([*command, *secret, plain, path], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    pytest.fail(done.stderr)


@pytest.mark.parametrize(
    "made",
    [
        Luks1(stripes=4000, passphrase=PASSPHRASE),
        Luks1(stripes=4000, passphrase=PASSPHRASE, cipher="aes-cbc-essiv:sha256", key=bytes(range(32))),
    ],
)
def test_a_qcow2_that_was_encrypted_by_hand_reads_as_qemu_reads_it(
    plain: Path, tmp_path: Path, made: Luks1
) -> None:
    path = encrypted_qcow2(plain, tmp_path / "image.qcow2", made)
    secret = ("--object", f"secret,id=key,file={key_file(tmp_path)}")
    options = f"driver=qcow2,encrypt.key-secret=key,file.filename={path}"
    run("qemu-img", "convert", *secret, "--image-opts", options, "-O", "raw", tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == plain.read_bytes()
    with opened(path) as image:
        disk = qcow2.open_image(image, name="web01", keys=Keys([Key("vda", PASSPHRASE)]), disk="vda")
        assert_data(disk, plain)
        with pytest.raises(InputError, match="web01: vda: luks1: the key given does not open it"):
            qcow2.open_image(image, name="web01", keys=Keys([Key("vda", b"wrong")]), disk="vda")
        with pytest.raises(UnsupportedError, match=r"web01: vda: luks1: .*--key vda=FILE"):
            qcow2.open_image(image, name="web01", disk="vda")


@pytest.mark.soak
def test_an_encrypted_qcow2_with_subclusters_and_cbc_is_read_as_qemu_wrote_it(
    plain: Path, tmp_path: Path
) -> None:
    path = tmp_path / "image.qcow2"
    _luks_qcow2(
        path,
        plain,
        *("extended_l2=on", "cluster_size=128k", "encrypt.cipher-alg=aes-128", "encrypt.cipher-mode=cbc"),
        *("encrypt.ivgen-alg=essiv", "encrypt.ivgen-hash-alg=sha256"),
    )
    with opened(path) as image:
        disk = qcow2.open_image(image, name="web01", keys=Keys([Key("vda", PASSPHRASE)]), disk="vda")
        assert_data(disk, plain)


@pytest.mark.soak
def test_an_encrypted_qcow2_and_its_snapshots_are_read_as_qemu_wrote_them(
    plain: Path, tmp_path: Path
) -> None:
    path = tmp_path / "image.qcow2"
    _luks_qcow2(path, plain)
    with opened(path) as image:
        disk = qcow2.open_image(image, name="web01", keys=Keys([Key("vda", PASSPHRASE)]), disk="vda")
        assert_data(disk, plain)
        with pytest.raises(InputError, match="web01: vda: luks1: the key given does not open it"):
            qcow2.open_image(image, name="web01", keys=Keys([Key("vda", b"wrong")]), disk="vda")
        with pytest.raises(UnsupportedError, match=r"web01: vda: luks1: .*--key vda=FILE"):
            qcow2.open_image(image, name="web01", disk="vda")
    secret = ("--object", f"secret,id=key,file={tmp_path / 'key'}")
    options = f"driver=qcow2,encrypt.key-secret=key,file.filename={path}"
    run("qemu-img", "snapshot", *secret, "--image-opts", "-c", "before", options)
    run("qemu-io", *secret, "--image-opts", "-c", "write -P 7 64k 64k", options)
    given = Keys([Key("*", PASSPHRASE)])
    content = plain.read_bytes()
    with opened(path) as image:
        assert qcow2.open_image(image, snapshot="1", keys=given).read(0, MIB) == content[:MIB]
        now = qcow2.open_image(image, keys=given)
        assert now.read(0, MIB) == content[:65536] + b"\7" * 65536 + content[131072:MIB]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_what_a_guests_kernel_wrote_through_dm_crypt_and_lvm_is_read(tmp_path: Path) -> None:
    """LVM inside LUKS and LUKS inside LVM, each with a filesystem, made by the kernel of a guest."""
    if shutil.which("guestfish") is None:
        pytest.skip("needs guestfish")
    disk = tmp_path / "disk"
    disk.write_bytes(b"")
    os.truncate(disk, 320 * MIB)
    tree = debian_tree(tmp_path / "tree", packages(3), {"etc/fstab": b"/dev/in/root / ext4\n"})
    content = Random(8).randbytes(3 * MIB)
    (tree / "content").write_bytes(content)
    run("tar", "-C", tree, "-cf", tmp_path / "tree.tar", ".")
    passphrase = PASSPHRASE.decode()
    script = [
        *(
            "run",
            "part-init /dev/sda gpt",
            "part-add /dev/sda p 2048 327679",
            "part-add /dev/sda p 327680 -2048",
        ),
        *("luks-format /dev/sda1 0", passphrase, "cryptsetup-open /dev/sda1 one", passphrase),
        *("pvcreate /dev/mapper/one", "vgcreate in /dev/mapper/one", "lvcreate root in 96"),
        *("mkfs ext4 /dev/in/root", "mount /dev/in/root /", f"tar-in {tmp_path / 'tree.tar'} /", "umount /"),
        *("pvcreate /dev/sda2", "vgcreate out /dev/sda2", "lvcreate crypt out 96"),
        *("luks-format-cipher /dev/out/crypt 0 aes-cbc-essiv:sha256", passphrase),
        *("cryptsetup-open /dev/out/crypt two", passphrase, "mkfs ext4 /dev/mapper/two"),
        *("mount /dev/mapper/two /", f"tar-in {tmp_path / 'tree.tar'} /", "umount /"),
        *("cryptsetup-close /dev/mapper/two", "vg-activate-all false", "cryptsetup-close /dev/mapper/one"),
    ]
    done = subprocess.run(
        ["guestfish", "--keys-from-stdin", "--format=raw", "-a", disk],
        input="\n".join(script) + "\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=550,
        env={**os.environ, "LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"},
    )
    assert done.returncode == 0, done.stderr
    with opened(disk) as source:
        found = open_volumes([("vda", source)], keys=Keys(keys()))
        readable = {volume.name: volume.filesystem for volume in found.volumes if volume.filesystem}
        assert len(readable) == 2
        assert "in/root" in readable
        for filesystem in readable.values():
            node = filesystem.lookup(filesystem.root, b"content")
            assert node is not None
            assert filesystem.read(node, 4 * MIB) == content
