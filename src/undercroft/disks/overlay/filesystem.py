"""The merged tree of an overlay's layers.

A node is a file of one layer, its layer and its node there in one number, or a folder that several layers
have, by a number of its own. Follows the kernel's fs/overlayfs: namei.c for names, readdir.c for folders.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from undercroft.disks.filesystem import FileKind, FileStat, FileSystem, WithAttributes
from undercroft.disks.overlay.options import MAX_LAYERS, MAX_PATH_BYTES
from undercroft.disks.text import text
from undercroft.errors import InputError, UnsupportedError

MAX_PLACES = 600_000
"""Of folders that several layers have, each counted in each: some 100 MiB."""

MAX_DEPTH = 2
"""Overlays in overlays, as in Linux (FILESYSTEM_MAX_STACK_DEPTH)."""

OPAQUE = b"y"
"""The value of the attribute `opaque` of a folder over which nothing of the layers below shows."""

Place = tuple[int, int]
"""The number of a layer, 0 is the uppermost, and a node of its filesystem."""

Stack = tuple[Place, ...]
"""The same folder in several layers, the uppermost first."""


class Layer(NamedTuple):
    """A layer: a filesystem, and the folder of it that is the layer's root."""

    filesystem: FileSystem
    root: int


class Overlay:
    """Implements `disks.filesystem.FileSystem` and `WithAttributes`.

    Args:
        layers: the uppermost first.
        prefix: what the names of the overlay's own attributes begin with.
        follows_redirects: whether renamed folders are looked for under their old names.

    Raises:
        UnsupportedError: a layer that has others below it cannot tell attributes.
        InputError: there are none, more than `MAX_LAYERS`, or overlays in them more than `MAX_DEPTH` deep.

    Attributes:
        depth: 1, more where a layer is an overlay.
    """

    content = "overlay"
    label = ""
    uuid = ""

    def __init__(
        self,
        layers: Sequence[Layer],
        prefix: bytes = b"trusted.overlay.",
        *,
        follows_redirects: bool = True,
    ) -> None:
        if not 0 < len(layers) <= MAX_LAYERS:
            raise InputError(f"overlay: {len(layers)} layers, the most are {MAX_LAYERS}")
        inner = (layer.filesystem for layer in layers)
        self.depth: int = 1 + max(each.depth if isinstance(each, Overlay) else 0 for each in inner)
        if self.depth > MAX_DEPTH:
            raise InputError(f"overlay: overlays in overlays, more than {MAX_DEPTH} deep")
        for layer in layers[:-1]:
            if not isinstance(layer.filesystem, WithAttributes):
                kind = layer.filesystem.content
                raise UnsupportedError(
                    f"overlay: attributes of {kind} are not read, so what its layer hides is unknown"
                )
        self._layers = tuple(layers)
        self._prefix = prefix
        self._follows_redirects = follows_redirects
        self._stacks: list[Stack] = []
        self._numbers: dict[Stack, int] = {}
        self._room = MAX_PLACES
        self.notes: tuple[str, ...] = ()
        self.problems = tuple(
            dict.fromkeys(
                problem for layer in layers for problem in getattr(layer.filesystem, "problems", ())
            )
        )
        self.root = self._node(tuple((number, layer.root) for number, layer in enumerate(layers)))

    def stat(self, node: int) -> FileStat:
        """Return the metadata of `node`: of a merged folder, the uppermost layer's. Raises InputError."""
        filesystem, own = self._upper(node)
        return filesystem.stat(own)._replace(node=node)

    def lookup(self, directory: int, name: bytes) -> int | None:
        """Return the node of `name` in `directory`, None when it is not there. Raises InputError."""
        return self._merge(self._stack(directory), name)

    def entries(self, directory: int) -> Iterator[tuple[bytes, int, FileKind]]:
        """Yield (name, node, kind), the names of the uppermost layer first. Raises InputError."""
        stack = self._stack(directory)
        seen: set[bytes] = set()
        for depth, (number, folder) in enumerate(stack):
            filesystem = self._layers[number].filesystem
            for name, node, kind in filesystem.entries(folder):
                if name in seen:
                    continue
                if len(stack) > 1:
                    seen.add(name)
                found = filesystem.stat(node).kind if kind is FileKind.UNKNOWN else kind
                if self._is_whiteout(number, node, found):
                    continue
                if found is FileKind.DIRECTORY:
                    merged = self._merge(stack[depth:], name)
                    if merged is not None:
                        yield name, merged, found
                else:
                    yield name, self._single(number, node), found

    def readlink(self, node: int) -> bytes:
        """Return the target of a symlink. Raises InputError."""
        filesystem, own = self._upper(node)
        return filesystem.readlink(own)

    def chunks(self, node: int, start: int = 0) -> Iterator[bytes]:
        """Yield a regular file's content from `start` on, as its layer's reader does. Raises InputError."""
        filesystem, own = self._with_content(node)
        return filesystem.chunks(own, start)

    def read(self, node: int, limit: int) -> bytes:
        """Return a regular file's whole content. Raises InputError when it is larger than `limit`."""
        filesystem, own = self._with_content(node)
        return filesystem.read(own, limit)

    def xattr(self, node: int, name: bytes) -> bytes | None:
        """Return an attribute; the overlay's own are not shown. Raises InputError."""
        [(number, own), *_] = self._stack(node)
        if name.startswith(self._prefix):
            return None
        filesystem = self._layers[number].filesystem
        if not isinstance(filesystem, WithAttributes):
            raise UnsupportedError(f"overlay: attributes of {filesystem.content} are not read")
        return filesystem.xattr(own, name)

    def device(self, node: int) -> int:
        """Return the number of a device file. Raises InputError."""
        filesystem, own = self._upper(node)
        if not isinstance(filesystem, WithAttributes):
            raise UnsupportedError(f"overlay: devices of {filesystem.content} are not read")
        return filesystem.device(own)

    def _single(self, number: int, node: int) -> int:
        return (node * MAX_LAYERS + number) * 2

    def _node(self, stack: Stack) -> int:
        if len(stack) == 1:
            return self._single(*stack[0])
        known = self._numbers.get(stack)
        if known is None:
            self._room -= len(stack)
            if self._room < 0:
                raise InputError(f"overlay: more than {MAX_PLACES} folders in several layers")
            known = self._numbers[stack] = len(self._stacks)
            self._stacks.append(stack)
        return known * 2 + 1

    def _stack(self, node: int) -> Stack:
        half, is_merged = divmod(node, 2)
        if is_merged:
            if not 0 <= half < len(self._stacks):
                raise InputError(f"overlay: there is no folder {node}")
            return self._stacks[half]
        own, number = divmod(half, MAX_LAYERS)
        if number >= len(self._layers):
            raise InputError(f"overlay: there is no file {node}")
        return ((number, own),)

    def _upper(self, node: int) -> tuple[FileSystem, int]:
        number, own = self._stack(node)[0]
        return self._layers[number].filesystem, own

    def _with_content(self, node: int) -> tuple[FileSystem, int]:
        number, own = self._stack(node)[0]
        if self._attribute(number, own, b"metacopy") is not None:
            raise UnsupportedError(
                "overlay: a file's content lies in another layer (metacopy), which is not read"
            )
        return self._layers[number].filesystem, own

    def _attribute(self, number: int, node: int, name: bytes) -> bytes | None:
        """Return an attribute of the overlay's own; of the lowest layer none counts."""
        filesystem = self._layers[number].filesystem
        if number == len(self._layers) - 1 or not isinstance(filesystem, WithAttributes):
            return None
        return filesystem.xattr(node, self._prefix + name)

    def _is_whiteout(self, number: int, node: int, kind: FileKind) -> bool:
        """Return whether a file of a layer says that there is none of that name.

        An empty file with an attribute is one as well (since Linux 6.7), whatever its folder says: a kernel
        that lists it cannot open it.
        """
        filesystem = self._layers[number].filesystem
        if not isinstance(filesystem, WithAttributes):
            return False  # the lowest layer's reader; what it hides is nothing
        if kind is FileKind.CHARACTER:
            return filesystem.device(node) == 0
        if kind is not FileKind.REGULAR or filesystem.stat(node).size_bytes:
            return False
        return filesystem.xattr(node, self._prefix + b"whiteout") is not None

    def _merge(self, stack: Stack, name: bytes) -> int | None:
        """Return what a name is in folders of several layers, None where it is nothing."""
        found: list[Place] = []
        pending = list(stack)
        while pending:
            number, folder = pending.pop(0)
            filesystem = self._layers[number].filesystem
            node = filesystem.lookup(folder, name)
            if node is None:
                continue
            kind = filesystem.stat(node).kind
            if self._is_whiteout(number, node, kind):
                break
            if kind is not FileKind.DIRECTORY:
                return self._node(tuple(found)) if found else self._single(number, node)
            found.append((number, node))
            if self._attribute(number, node, b"opaque") == OPAQUE:
                break
            redirect = self._attribute(number, node, b"redirect")
            if redirect is not None:
                pending, name = self._redirected(number, redirect, pending)
        return self._node(tuple(found)) if found else None

    def _redirected(self, number: int, redirect: bytes, pending: list[Place]) -> tuple[list[Place], bytes]:
        """Return where lower layers have a folder that was renamed, and under which name."""
        if not self._follows_redirects:
            raise UnsupportedError(
                f"overlay: a folder was {text(redirect[:64])}, which the mount does not follow"
            )
        path = redirect.split(b"/")[1:] if redirect.startswith(b"/") else [redirect]
        if len(redirect) > MAX_PATH_BYTES or any(name in (b"", b".", b"..") or b"/" in name for name in path):
            raise InputError(f"overlay: a folder was {text(redirect[:64])!r}, which is no path")
        if not redirect.startswith(b"/"):
            return pending, redirect
        folders: list[Place] = []
        for lower in range(number + 1, len(self._layers)):
            folder, is_last = self._walk(lower, path[:-1])
            if folder is not None:
                folders.append((lower, folder))
            if is_last:
                break
        return folders, path[-1]

    def _walk(self, number: int, path: Sequence[bytes]) -> tuple[int | None, bool]:
        """Return a folder of one layer, and whether something on the way hides what lies below that layer."""
        layer = self._layers[number]
        node, is_last = layer.root, False
        for name in path:
            child = layer.filesystem.lookup(node, name)
            if child is None:
                return None, is_last
            if layer.filesystem.stat(child).kind is not FileKind.DIRECTORY:
                return None, True
            is_last = is_last or self._attribute(number, child, b"opaque") == OPAQUE
            node = child
        return node, is_last
