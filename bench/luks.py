"""Read encrypted volumes: this reader, a cipher context for each sector, and peers where they are installed.

Each volume is encrypted by cryptsetup (LUKS2) or qemu-img (LUKS1) and read in pieces of 1 MiB and of 4 KiB;
all readers have to give the same bytes. Derivation is not counted: each volume is opened once before. The
peers are dissect.fve and libluksde (bindings), which run in this process too; qemu-img converts LUKS1 as a
whole, with its start and its derivation, whose time on an empty volume is taken off. Processor time counts:
all of them use one processor, and reading from the page cache waits for nothing.
"""

import contextlib
import hashlib
import io
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from luksimages import PASSPHRASE, QUICK_PBKDF2, encrypted1, encrypted2, format_volume, keys
from luksmaker import encrypted

from undercroft.disks import luks
from undercroft.disks.source import DescriptorSource

MIB = 1 << 20
SIZE_MIB = 64


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = folder / "plain"
        plain.write_bytes(hashlib.shake_128(b"plain").digest(SIZE_MIB * MIB))
        volumes = {
            "LUKS2, 512-byte sectors": encrypted2(plain, folder / "a", "--sector-size", "512", *QUICK_PBKDF2),
            "LUKS2, 4,096-byte sectors": encrypted2(
                plain, folder / "b", "--sector-size", "4096", *QUICK_PBKDF2
            ),
            "LUKS1, XTS": encrypted1(plain, folder / "c"),
            "LUKS1, CBC with ESSIV": encrypted1(
                plain, folder / "d", "--cipher", "aes-cbc-essiv:sha256", "--key-size", "256"
            ),
        }
        print("| volume | reader | pieces | MiB/s |\n|---|---|---|---|")
        for title, path in volumes.items():
            _measure(title, path, plain.read_bytes())
        _qemu(volumes["LUKS1, XTS"], folder)


def _measure(title: str, path: Path, plain: bytes) -> None:
    with path.open("rb") as file:
        source = DescriptorSource(file.fileno(), path.stat().st_size)
        header = luks.read_header(source)
        volume = luks.decrypted(source, header, luks.volume_key(source, header, keys()))
        for length, part in ((MIB, SIZE_MIB), (4096, 8)):
            seconds = _timed(volume.read, length, plain[: part * MIB])
            print(f"| {title} | Undercroft | {length >> 10} KiB | {part / seconds:.0f} |")
        key = luks.volume_key(source, header, keys())
        _one_by_one(title, header, source, key)
    for name, opener in (("dissect.fve", _dissect), ("libluksde", _libluksde)):
        try:
            with opener(path) as read:
                seconds = _timed(read, MIB, plain[: 16 * MIB])
                print(f"| {title} | {name} | 1024 KiB | {16 / seconds:.0f} |")
        except ImportError:
            continue
        except Exception as error:  # noqa: BLE001 - whatever a peer cannot read is its result
            print(f"| {title} | {name} | | does not read it ({type(error).__name__}: {str(error)[:60]}) |")


def _timed(read, length: int, plain: bytes) -> float:
    """Return the best of three times for reading `plain`, which has to be what is read."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        pieces = [read(at, length) for at in range(0, len(plain), length)]
        best = min(best, time.process_time() - started)
        if b"".join(pieces) != plain:
            raise ValueError("reads other bytes")
    return best


def _one_by_one(title: str, header: luks.Header, source: DescriptorSource, key: bytes) -> None:
    """The same work with a new context for each sector (encryption costs what decryption does)."""
    data = source.read(header.segment.offset, 8 * MIB)
    started = time.process_time()
    encrypted(header.segment.cipher, key, data, header.segment.sector_bytes)
    print(f"| {title} | a context for each sector | | {8 / (time.process_time() - started):.0f} |")


@contextlib.contextmanager
def _dissect(path: Path):
    from dissect.fve.luks import LUKS  # noqa: PLC0415 - where it is installed

    with path.open("rb") as file:
        volume = LUKS(file)
        volume.unlock_with_passphrase(PASSPHRASE.decode())
        stream = volume.open()

        def read(at: int, length: int) -> bytes:
            stream.seek(at)
            return stream.read(length)

        yield read


@contextlib.contextmanager
def _libluksde(path: Path):
    import pyluksde  # noqa: PLC0415 - where it is installed

    volume = pyluksde.volume()
    volume.set_password(PASSPHRASE.decode())
    with path.open("rb") as file:
        volume.open_file_object(io.BufferedReader(io.FileIO(file.fileno(), closefd=False)))
        if volume.is_locked():
            raise ValueError("stays locked")
        yield lambda at, length: volume.read_buffer_at_offset(length, at)
        volume.close()


def _qemu(path: Path, folder: Path) -> None:
    empty = format_volume(
        folder / "empty", "--type", "luks1", "--pbkdf-force-iterations", "1000", size_bytes=4 * MIB
    )
    seconds = [min(_convert(each, folder) for _ in range(3)) for each in (empty, path)]
    print(f"| LUKS1, XTS | qemu-img convert | | {SIZE_MIB / (seconds[1] - seconds[0]):.0f} |")


def _convert(path: Path, folder: Path) -> float:
    options = f"driver=luks,key-secret=key,file.filename={path}"
    started = _childrens_s()
    subprocess.run(
        [
            *("qemu-img", "convert", "--object", f"secret,id=key,file={folder / 'key'}", "--image-opts"),
            *(options, "-O", "raw", folder / "converted"),
        ],
        check=True,
    )
    return _childrens_s() - started


def _childrens_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


main()
