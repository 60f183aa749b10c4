"""A file's content out of its runs of blocks, in pieces that bound memory; holes as zeros."""

from collections.abc import Callable, Iterable, Iterator


def mapped_content(
    runs: Iterable[tuple[int, int, int]],
    size_bytes: int,
    start: int,
    block_bytes: int,
    read: Callable[[int, int], bytes],
    most: int,
) -> Iterator[bytes]:
    """Yield a file's bytes from `start` to its end.

    Args:
        runs: first block in the file, number of blocks, first block on the volume (0: reads as zeros);
            ascending, from the block of `start` on; what no run covers is a hole.
        size_bytes: of the file.
        start: first byte that is wanted; none lies behind the end.
        block_bytes: of a block.
        read: gives that many bytes of the volume at an offset in bytes, or raises InputError.
        most: the largest piece.
    """
    if start >= size_bytes:
        return
    position = start
    for logical, count, place in runs:
        begin = logical * block_bytes
        if begin >= size_bytes:
            break
        if begin > position:
            yield from zeros(begin - position, most)
            position = begin
        end = min(begin + count * block_bytes, size_bytes)
        if not place:
            yield from zeros(end - position, most)
        elif end - position <= most:
            yield read(place * block_bytes + position - begin, end - position)
        else:
            yield from in_pieces(read, place * block_bytes + position - begin, end - position, most)
        position = end
        if position == size_bytes:
            return
    yield from zeros(size_bytes - position, most)


def in_pieces(read: Callable[[int, int], bytes], offset: int, length: int, most: int) -> Iterator[bytes]:
    """Yield `length` bytes at `offset` in pieces of at most `most`."""
    while length > most:
        yield read(offset, most)
        offset += most
        length -= most
    yield read(offset, length)


def zeros(length: int, most: int) -> Iterator[bytes]:
    """Yield `length` zero bytes in pieces of at most `most`."""
    while length > most:
        yield bytes(most)
        length -= most
    yield bytes(length)
