"""The last good policy, kept as texts in the agent's folder for a start that finds mistakes or nothing.

The texts are kept and not what they mean, so that a newer version reads them by its own rules, and every
setting still names its file and line. The file is replaced as a whole, is on the disk when `keep` returns,
and is for root only: who can write it can write the policy.
"""

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from undercroft.adapters.hookfiles import write_file
from undercroft.errors import InputError, NotFoundError, OperationError
from undercroft.steady.policy import Policy
from undercroft.steady.reading import load_policy

Texts = Sequence[tuple[str, bytes]]

_FORMAT = "undercroft/kept-policy/1"


def keep(path: Path, texts: Texts, today: date) -> None:
    """Keep the texts of a policy that was found good.

    Args:
        path: of the kept copy.
        texts: name and bytes of each file, as `load_policy` took them: they are UTF-8.
        today: the day on which they were good.

    Raises:
        OperationError: the disk failed; what was kept before is still there.
    """
    files = [{"name": name, "text": data.decode("utf-8")} for name, data in texts]
    document = {"schema": _FORMAT, "day": today.isoformat(), "files": files}
    try:
        write_file(path, json.dumps(document, indent=1).encode("ascii"))
    except OSError as error:
        raise OperationError(f"{path}: {error.strerror}; the policy is not kept for a restart") from error


def kept_texts(path: Path) -> tuple[list[tuple[str, bytes]], date]:
    """Return the kept texts and the day on which they were good.

    Raises:
        NotFoundError: none were ever kept.
        InputError: the file is damaged.
        OperationError: it cannot be read; that is not the same as none.
    """
    try:
        document = json.loads(path.read_bytes())
        if document["schema"] != _FORMAT:
            raise ValueError
        texts = [(str(file["name"]), str(file["text"]).encode("utf-8")) for file in document["files"]]
        return texts, date.fromisoformat(document["day"])
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no policy was kept yet") from error
    except OSError as error:
        raise OperationError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise InputError(
            f"{path}: the kept copy of the last good policy is damaged; the next good policy replaces it"
        ) from error


def kept_policy(path: Path, today: date) -> Policy | None:
    """Return the last good policy, None where none was ever kept.

    Args:
        path: of the kept copy.
        today: the day, in UTC. A clock that went back makes no mistake of an exception that was none.

    Raises:
        InputError: the copy is damaged, or this version finds mistakes in it, one line for each.
        OperationError: it cannot be read.
    """
    try:
        texts, day = kept_texts(path)
    except NotFoundError:
        return None
    return load_policy(texts, max(today, day))
