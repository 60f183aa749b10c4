"""The words of the boot lines on a live medium: what the system in it is told when it starts.

Guarantees: any bytes give words, within limits. GRUB's and syslinux' menus are looked at line by line,
whatever their conditions and variables mean: a word counts where any entry has it.
"""

import re

from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree, WalkLimits
from undercroft.errors import InputError, NotFoundError

MAX_MENUS = 64
MAX_MENU_BYTES = 256 << 10
MAX_WORDS = 10_000
_FOLDERS = (b"/boot/grub", b"/boot/grub2", b"/isolinux", b"/syslinux", b"/boot/isolinux", b"/boot/syslinux",
            b"/EFI/BOOT", b"/loader/entries")  # fmt: skip
_BOOT_LINE = re.compile(rb"^\s*(?:linux\w*|append|options|kernel)\s+(.*)$", re.MULTILINE | re.IGNORECASE)


def boot_words(tree: GuestTree, problems: list[str]) -> frozenset[str]:
    """Return the words of all boot lines; what could not be read, or is too much, is added to `problems`."""
    words: set[str] = set()
    menus = 0
    for folder in _FOLDERS:
        try:
            for path, _ in tree.walk(folder, WalkLimits(entries=2000, depth=4)):
                if not path.lower().endswith((b".cfg", b".conf")):
                    continue
                menus += 1
                if menus > MAX_MENUS or len(words) > MAX_WORDS:
                    raise InputError(f"more than {MAX_MENUS} menus, or {MAX_WORDS} words")
                for line in _BOOT_LINE.findall(tree.read(path, MAX_MENU_BYTES)):
                    words.update(text(word) for word in line.split())
        except NotFoundError:
            continue
        except InputError as error:
            problems.append(f"{text(folder)}: what its boot menus say of the root is unknown: {error}")
    return frozenset(words)


def values(words: frozenset[str], key: str) -> list[str]:
    """Return the different values that the words give a key (`layerfs-path=`), sorted."""
    return sorted({word.removeprefix(f"{key}=") for word in words if word.startswith(f"{key}=")})
