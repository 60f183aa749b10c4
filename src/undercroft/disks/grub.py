r"""What GRUB 2 would start: its menu, its environment block, and Boot Loader Specification entries.

Guarantees: any bytes give a value or `InputError`, within the limits below; no script is executed. The
menu is read as grub-mkconfig(8) writes it: `set default=`, `menuentry` and `submenu` blocks with titles
and ids, the `linux` line of each entry. A hand-written script that computes its menu is beyond that and
gives an entry without a kernel, or none. Follows the GRUB manual (Shell-like scripting, "default",
Environment block) and the Boot Loader Specification's type 1 entries.

    >>> default_entry(parse_config(b"set default=0\nmenuentry 'Debian' { linux /vmlinuz-6.1 root=UUID=x }"))
    MenuEntry(title='Debian', ident='', kernel='/vmlinuz-6.1', arguments=('root=UUID=x',), ...)
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from undercroft.errors import InputError

MAX_CONFIG_BYTES = 512 << 10
"""A menu of a hundred kernels has 300 KiB."""

MAX_ENTRIES = 1000
MAX_DEPTH = 16
MAX_LINE_CHARS = 16_384
"""Linux takes command lines of at most 4 KiB; longer lines are skipped."""

ENVIRONMENT_SIGNATURE = b"# GRUB Environment Block\n"
MAX_ENVIRONMENT_BYTES = 64 << 10

_WORDS = ("{", "}", "default=", "linux", "module", "blscfg")
"""Lines without one of these say nothing about the menu; most of a real file is such lines."""

_LINUX_COMMANDS = frozenset({"linux", "linux16", "linuxefi", "module", "module2"})
_TOKEN = re.compile(
    r"""\s*(?:(\#.*)|([;{}])(?=[\s;]|$)|((?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s;'"\\])+)|(.))""", re.DOTALL
)
_PART = re.compile(r"""'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.)|([^'"\\]+)""", re.DOTALL)
_ESCAPED = re.compile(r"""\\([$"\\`])""")


@dataclass(slots=True)
class MenuEntry:
    """One entry or submenu; a submenu has children and no kernel.

    Attributes:
        title: what the menu shows.
        ident: its id, "" for none.
        kernel: the kernel's path as GRUB sees it (on the boot partition it lacks "/boot"), "" for none.
        arguments: the kernel's command line.
        children: of a submenu, in order.
    """

    title: str
    ident: str = ""
    kernel: str = ""
    arguments: tuple[str, ...] = ()
    children: list["MenuEntry"] = field(default_factory=list)

    @property
    def root(self) -> str:
        """The value of `root=` ("UUID=..."), "" for none."""
        return next((word[5:] for word in reversed(self.arguments) if word.startswith("root=")), "")

    @property
    def root_flags(self) -> str:
        """The value of `rootflags=`, the root's mount options ("subvol=@"), "" for none."""
        return next((word[10:] for word in reversed(self.arguments) if word.startswith("rootflags=")), "")


@dataclass(frozen=True, slots=True)
class GrubConfig:
    """A parsed grub.cfg.

    Attributes:
        default: the last `set default=` that names an entry by itself or through `saved_entry`.
        once: whether `next_entry` of the environment block takes precedence.
        menu: top-level entries.
        uses_bls: whether the menu's entries come from loader/entries (`blscfg`).
    """

    default: str
    once: bool
    menu: tuple[MenuEntry, ...]
    uses_bls: bool


def parse_config(untrusted: bytes) -> GrubConfig:
    """Return the menu of a grub.cfg.

    Raises:
        InputError: it is larger than `MAX_CONFIG_BYTES`, or passes `MAX_ENTRIES` or `MAX_DEPTH`.
    """
    if len(untrusted) > MAX_CONFIG_BYTES:
        raise InputError(f"grub.cfg: {len(untrusted)} bytes, the limit is {MAX_CONFIG_BYTES}")
    reader = _MenuReader()
    for line in untrusted.decode("utf-8", "surrogateescape").split("\n"):
        if len(line) <= MAX_LINE_CHARS and any(word in line for word in _WORDS):
            for command in split_commands(line):
                reader.command(command)
    return GrubConfig(reader.default, reader.once, tuple(reader.menu), reader.uses_bls)


def parse_environment(untrusted: bytes) -> dict[str, str]:
    """Return the variables of a grubenv block.

    Raises:
        InputError: the signature is missing, or it is larger than `MAX_ENVIRONMENT_BYTES`.
    """
    if len(untrusted) > MAX_ENVIRONMENT_BYTES or not untrusted.startswith(ENVIRONMENT_SIGNATURE):
        raise InputError("grubenv: no GRUB environment block")
    values: dict[str, str] = {}
    for line in untrusted.split(b"\n"):
        name, equals, value = line.partition(b"=")
        if equals and not name.startswith(b"#"):
            text = re.sub(rb"\\(.)", rb"\1", value)
            values[name.decode("utf-8", "surrogateescape")] = text.decode("utf-8", "surrogateescape")
    return values


def default_entry(config: GrubConfig, environment: Mapping[str, str] | None = None) -> MenuEntry | None:
    """Return the entry that GRUB would start without a keypress, None when it cannot be told.

    An entry that does not exist falls back to the first one, as in GRUB.
    """
    environment = environment or {}
    wanted = environment.get("next_entry", "") if config.once else ""
    wanted = wanted or _expand(config.default, environment) or "0"
    menu: Sequence[MenuEntry] = config.menu
    entry: MenuEntry | None = None
    for part in wanted.split(">"):
        entry = _pick(menu, part.strip()) or (menu[0] if menu else None)
        menu = entry.children if entry else ()
    for _ in range(MAX_DEPTH):
        if entry is None or not entry.children:
            break
        entry = entry.children[0]  # a submenu was named: its first entry starts
    return entry


def parse_bls_entry(untrusted: bytes, ident: str) -> MenuEntry:
    """Return a Boot Loader Specification entry; `ident` is its file name without ".conf".

    Raises:
        InputError: it is larger than `MAX_ENVIRONMENT_BYTES`.
    """
    if len(untrusted) > MAX_ENVIRONMENT_BYTES:
        raise InputError(f"{ident}.conf: {len(untrusted)} bytes, the limit is {MAX_ENVIRONMENT_BYTES}")
    values: dict[str, str] = {}
    for line in untrusted.decode("utf-8", "surrogateescape").split("\n"):
        key, _, value = line.strip().partition(" ")
        if key and not key.startswith("#"):
            values[key] = value.strip()
    options = tuple(values.get("options", "").split())
    return MenuEntry(values.get("title", ""), ident, values.get("linux", ""), options)


def kernel_release(path: str) -> str:
    """Return what `uname -r` would print, by the kernel file's name ("" where it does not tell)."""
    name = path.rpartition("/")[2]
    for prefix in ("vmlinuz-", "vmlinux-", "kernel-", "bzImage-", "Image-"):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return ""


def split_commands(line: str) -> list[list[str]]:
    """Return the commands of one script line as words, quotes removed; "{" and "}" are words."""
    commands: list[list[str]] = [[]]
    for comment, mark, word, stray in _TOKEN.findall(line):
        if comment:
            break
        if mark == ";":
            commands.append([])
        elif mark:
            commands[-1].append(mark)
            commands.append([])
        elif word or stray.strip():
            commands[-1].append(_unquote(word or stray))
    return [command for command in commands if command]


class _MenuReader:
    """Takes one command after the other and keeps the stack of open blocks."""

    def __init__(self) -> None:
        self.menu: list[MenuEntry] = []
        self.default = ""
        self.once = False
        self.uses_bls = False
        self._open: list[MenuEntry | None] = []  # None is a block that is no menu entry (function)
        self._count = 0

    def command(self, words: list[str]) -> None:
        name = words[0]
        if name in ("menuentry", "submenu") and words[-1] == "{":
            self._push(_entry(words[1:-1]))
        elif words[-1] == "{":
            self._push(None)
        elif words == ["}"]:
            self._open = self._open[:-1]
        elif name == "set" and len(words) > 1 and words[1].startswith("default="):
            self._set_default(words[1].partition("=")[2])
        elif name == "blscfg":
            self.uses_bls = True
        elif name in _LINUX_COMMANDS and len(words) > 1 and self._open and self._open[-1]:
            self._set_kernel(self._open[-1], words[1:], name)

    def _push(self, entry: MenuEntry | None) -> None:
        self._count += 1
        if self._count > MAX_ENTRIES or len(self._open) >= MAX_DEPTH:
            raise InputError(f"grub.cfg: more than {MAX_ENTRIES} entries, or nested deeper than {MAX_DEPTH}")
        if entry:
            parent = next((block for block in reversed(self._open) if block), None)
            (parent.children if parent else self.menu).append(entry)
        self._open.append(entry)

    def _set_default(self, value: str) -> None:
        if "next_entry" in value:
            self.once = True
        else:
            self.default = value

    def _set_kernel(self, entry: MenuEntry, words: list[str], command: str) -> None:
        is_module = command.startswith("module")
        if is_module and not kernel_release(words[0]):
            return  # an initrd, or Xen's own modules
        if not entry.kernel:
            entry.kernel, entry.arguments = words[0], tuple(words[1:])


def _entry(words: list[str]) -> MenuEntry:
    title = words[0] if words else ""
    ident = ""
    for option, value in pairwise(words):
        if option == "--id" or option.endswith("menuentry_id_option"):
            ident = value
    return MenuEntry(title, ident)


def _pick(menu: Sequence[MenuEntry], wanted: str) -> MenuEntry | None:
    """An entry by its id or title, or by its position from 0."""
    for entry in menu:
        if wanted and wanted in (entry.ident, entry.title):
            return entry
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 5 and int(wanted) < len(menu):
        return menu[int(wanted)]
    return None


def _expand(value: str, environment: Mapping[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda match: environment.get(match[1], ""), value)


def _unquote(word: str) -> str:
    return "".join(
        single or _ESCAPED.sub(r"\1", double) or escaped or plain
        for single, double, escaped, plain in _PART.findall(word)
    )
