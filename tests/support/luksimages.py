"""LUKS volumes for tests, made by cryptsetup and qemu-img on files: nothing is mounted, nothing mapped.

cryptsetup encrypts LUKS2 (`reencrypt --encrypt`), qemu-img LUKS1, by their own code. What they cannot make
here is encrypted by `encrypt`, sector by sector, from the volume's key that cryptsetup prints.
"""

import json
import re
import shutil
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import XTS
from diskimages import MIB, run, wrap_gpt
from luksmaker import Luks1, encrypted

from undercroft.disks.keys import Key

PASSPHRASE = b"correct horse 7f3a9c"
"""Long and odd enough to be searched for in outputs."""

QUICK_ARGON2 = ("--pbkdf-memory", "1024", "--pbkdf-force-iterations", "4", "--pbkdf-parallel", "1")
QUICK_PBKDF2 = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")

HEADER_MIB = 16
"""What cryptsetup puts before the data of LUKS2."""


def keys(secret: bytes = PASSPHRASE, volume: str = "*") -> list[Key]:
    """Return one key."""
    return [Key(volume, secret)]


def key_file(folder: Path, secret: bytes = PASSPHRASE) -> Path:
    """Return a file with a key."""
    path = folder / "key"
    path.write_bytes(secret)
    return path


def format_volume(path: Path, *options: str, size_bytes: int = 20 * MIB, secret: bytes = PASSPHRASE) -> Path:
    """Make an empty volume with cryptsetup; `options` say which (default: LUKS2 with a cheap Argon2id)."""
    with path.open("wb") as volume:
        volume.truncate(size_bytes)
    key = key_file(path.parent, secret)
    chosen = options or ("--type", "luks2", *QUICK_ARGON2)
    run("cryptsetup", "luksFormat", "-q", *chosen, "--key-file", key, path)
    return path


def encrypted2(plain: Path, path: Path, *options: str, secret: bytes = PASSPHRASE) -> Path:
    """Make a LUKS2 volume whose data is `plain`, encrypted by cryptsetup itself."""
    shutil.copyfile(plain, path)
    with path.open("r+b") as volume:
        volume.truncate(plain.stat().st_size + 2 * HEADER_MIB * MIB)
    key = key_file(path.parent, secret)
    run(
        *("cryptsetup", "reencrypt", "--encrypt", "--type", "luks2", "-q"),
        *("--reduce-device-size", f"{2 * HEADER_MIB}M", "--key-file", key, *(options or QUICK_ARGON2), path),
    )
    return path


def encrypted1(plain: Path, path: Path, *options: str, secret: bytes = PASSPHRASE) -> Path:
    """Make a LUKS1 volume with cryptsetup, and have qemu-img encrypt `plain` into it."""
    size_bytes = plain.stat().st_size + 4 * MIB
    chosen = ("--type", "luks1", "--pbkdf-force-iterations", "1000", *options)
    format_volume(path, *chosen, size_bytes=size_bytes, secret=secret)
    write_by_qemu(plain, path)
    return path


def write_by_qemu(plain: Path, path: Path) -> None:
    """Have qemu-img encrypt `plain` into a LUKS1 volume; the key lies in the file beside it."""
    run(
        *("qemu-img", "convert", "-n", "-f", "raw", "--target-image-opts"),
        *("--object", f"secret,id=key,file={path.parent / 'key'}"),
        *(plain, f"driver=luks,key-secret=key,file.filename={path}"),
    )


def volume_key(path: Path, secret: bytes = PASSPHRASE) -> bytes:
    """Return the volume's key as cryptsetup prints it."""
    key = key_file(path.parent, secret)
    printed = run("cryptsetup", "luksDump", "--dump-volume-key", "-q", "--key-file", key, path)
    return bytes.fromhex("".join(re.findall(r"\b[0-9a-f]{2}\b", printed.split("MK dump:")[1])))


def encrypt(key: bytes, plain: bytes, sector_bytes: int, first_sector: int = 0) -> bytes:
    """Return `plain` in AES-XTS-plain64, one context for each sector: as slow and plain as it can be."""
    pieces = []
    for start in range(0, len(plain), sector_bytes):
        vector = struct.pack("<QQ", first_sector + start // 512, 0)
        encryptor = Cipher(AES(key), XTS(vector)).encryptor()
        pieces.append(encryptor.update(plain[start : start + sector_bytes]))
    return b"".join(pieces)


def wrapped(volume: Path, disk: Path, names: Sequence[str] = ("crypt",)) -> Path:
    """Return a disk with one GPT partition that holds `volume`."""
    return wrap_gpt(disk, [volume], names=names)


def encrypted_qcow2(plain: Path, image: Path, made: Luks1) -> Path:
    """Make a qcow2 image of `plain`, and encrypt it in place as QEMU would: with the header of `made`.

    qemu-img itself takes seconds to make one, since it measures how fast it derives keys.
    """
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4096", plain, image)
    mapped = json.loads(run("qemu-img", "map", "--output=json", "-f", "qcow2", image))
    data = bytearray(image.read_bytes())
    for piece in mapped:
        if piece["data"] and "offset" in piece:
            place, length = piece["offset"], piece["length"]
            content = bytes(data[place : place + length]).ljust(length, b"\0")
            data[place : place + length] = encrypted(made.cipher, made.key, content, first=place // 512)
    header = replace(made, plain=b"").build()
    data += bytes(-len(data) % 4096)
    (header_bytes,) = struct.unpack_from(">I", data, 100)
    pointer = struct.pack(">IIQQ", 0x0537BE77, 16, len(data), len(header))
    data[header_bytes + len(pointer) : 4096] = data[header_bytes : 4096 - len(pointer)]
    data[header_bytes : header_bytes + len(pointer)] = pointer
    struct.pack_into(">I", data, 32, 2)
    image.write_bytes(data + header)
    return image
