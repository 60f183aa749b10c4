import gzip
import io
import lzma
import resource
import zlib

import pytest
import zstandard

from undercroft.advisories.feeds.decompression import decompressed
from undercroft.errors import InputError

PLAIN = b"Package: a\n" * 5000
FORMS = {
    "gzip": gzip.compress(PLAIN),
    "two gzip members": gzip.compress(PLAIN[:20]) + gzip.compress(PLAIN[20:]),
    "xz": lzma.compress(PLAIN),
    "zstd": zstandard.compress(PLAIN),
    "plain": PLAIN,
}


def taken(data: bytes, limit: int = 1 << 20) -> bytes:
    return decompressed(io.BytesIO(data), limit, "Packages").read()


@pytest.mark.parametrize("data", FORMS.values(), ids=FORMS)
def test_each_compression_gives_the_same_bytes(data):
    assert taken(data) == PLAIN


@pytest.mark.parametrize("data", [FORMS["gzip"], FORMS["xz"], FORMS["zstd"]], ids=["gzip", "xz", "zstd"])
def test_a_stream_that_is_cut_off_is_refused_wherever_that_is(data):
    for length in range(6, len(data), 3):
        with pytest.raises(InputError, match=r"damaged|cut off"):
            taken(data[:length])


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, zstandard.compress])
def test_a_bomb_stops_at_the_limit_with_little_memory(compress):
    bomb = compress(bytes(64 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stream = decompressed(io.BytesIO(bomb), 1 << 20, "Packages")
    with pytest.raises(InputError, match="more than the limit of 1048576 bytes"):
        stream.read()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # kB


def test_a_zstd_window_beyond_the_limit_is_refused():
    frame = b"\x28\xb5\x2f\xfd\x00\xf8" + bytes(20)  # asks for a window of 2 TiB
    with pytest.raises(InputError, match=r"damaged|cut off"):
        taken(frame)


def test_an_xz_dictionary_beyond_the_limit_is_refused():
    stream = bytearray(lzma.compress(PLAIN))
    start = 12  # behind the stream header: one block with LZMA2, whose fifth byte is the dictionary's size
    end = start + (stream[start] + 1) * 4
    assert stream[start + 2] == 0x21
    stream[start + 4] = 37  # 1.5 GiB
    stream[end - 4 : end] = zlib.crc32(stream[start : end - 4]).to_bytes(4, "little")
    with pytest.raises(InputError, match="Memory usage limit exceeded"):
        taken(bytes(stream))
