"""The file that keeps the class numbers (`numbering.Memory`) beside the kernel, written whole or not."""

import json
import os
from datetime import datetime
from pathlib import Path

from undercroft.errors import DeniedError, OperationError, StateError
from undercroft.firewall import marks
from undercroft.firewall.classes import Classes, Labels
from undercroft.usecases.firewall.numbering import Memory, Numbering, ordered

MAX_FILE_BYTES = 64 << 20
_VERSION = 1
_MODE = 0o600
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW


def load(path: Path) -> Memory:
    """Return what a file holds; an empty memory where there is none.

    Raises:
        StateError: it is none of ours, or malformed.
        DeniedError, OperationError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            untrusted = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return Memory()
    except PermissionError as error:
        raise DeniedError(f"{path}: no permission to read it; it belongs to the agent's user") from error
    except OSError as error:
        raise OperationError(f"{path}: {error.strerror}; it holds the firewall's class numbers") from error
    try:
        return _decoded(untrusted)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StateError(
            f"{path}: not a memory of the firewall's class numbers: {error}; delete it"
        ) from error


def store(path: Path, memory: Memory) -> None:
    """Put it into the file, in a folder that is there.

    Raises:
        DeniedError, OperationError: it cannot be written; what was there is there still.
    """
    part = path.with_name(path.name + ".part")
    try:
        with open(os.open(part, _NEW, _MODE), "wb") as file:
            file.write(_encoded(memory))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except PermissionError as error:
        raise DeniedError(f"{path}: no permission to write it; it belongs to the agent's user") from error
    except OSError as error:
        raise OperationError(
            f"{path}: {error.strerror}; the firewall's class numbers have to be kept there: free the disk"
        ) from error


def _encoded(memory: Memory) -> bytes:
    numberings = [
        {
            "policy": numbering.policy,
            "classes": [[number, sorted(labels)] for number, labels in ordered(numbering.classes)],
        }
        for numbering in memory.numberings
    ]
    retired = [
        [number, sorted(labels), since.isoformat()] for labels, (number, since) in memory.retired.items()
    ]
    return json.dumps({"version": _VERSION, "numberings": numberings, "retired": retired}).encode()


def _decoded(untrusted: bytes) -> Memory:
    if len(untrusted) > MAX_FILE_BYTES:
        raise ValueError(f"more than {MAX_FILE_BYTES:,} bytes")
    value = json.loads(untrusted)
    if value["version"] != _VERSION:
        raise ValueError(f"version {value['version']!r}; {_VERSION} is known")
    numberings = tuple(
        Numbering(str(item["policy"]), Classes(dict(_pair(*pair) for pair in item["classes"])))
        for item in value["numberings"]
    )
    retired = {}
    for number, labels, since in value["retired"]:
        key, checked = _pair(number, labels)
        retired[key] = (checked, _moment(since))
    memory = Memory(numberings, retired)
    _check(memory)
    return memory


def _check(memory: Memory) -> None:
    numbers = memory.numbers()
    if len(set(numbers.values())) != len(numbers):
        raise ValueError("two classes have one number")
    if len(memory.numberings) > 2:
        raise ValueError(f"{len(memory.numberings)} numberings; two can be")
    for numbering in memory.numberings:
        for labels, number in numbering.classes.numbers.items():
            if numbers[labels] != number or labels in memory.retired:
                raise ValueError(f"class {number} has another number too")


def _pair(number: object, labels: object) -> tuple[Labels, int]:
    if type(number) is not int or not 1 <= number <= marks.MAX_CLASS:
        raise ValueError(f"{number!r} is no number of a class")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"{labels!r} are no labels")
    return frozenset(labels), number


def _moment(value: object) -> datetime:
    moment = datetime.fromisoformat(str(value))
    if moment.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return moment
