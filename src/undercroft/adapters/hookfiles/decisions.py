"""The agent's last answers, authenticated, for when it is away."""

import hashlib
import hmac
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from undercroft.adapters.hookfiles.files import (
    MAX_NOTE_BYTES,
    checked_uuid,
    json_bytes,
    loaded,
    told,
    write_file,
)
from undercroft.adapters.hookfiles.values import LastDecision
from undercroft.errors import InputError
from undercroft.model.schema import Json, decode

_DECISION_MARK = b"undercroft last decision 1\n"


def write_decision(state: Path, decision: LastDecision) -> None:
    """Leave what the hook goes by while the agent is away, authenticated.

    Raises InputError, OperationError.
    """
    body = json_bytes(
        {
            "machine": checked_uuid(decision.machine),
            "name": decision.name,
            "action": decision.action.value,
            "hold": decision.hold,
            "leaves_open": decision.leaves_open,
            "reason": decision.reason,
            "until_s": int(decision.until.timestamp()),
            "images": [cast("Json", asdict(image)) for image in decision.images],
        }
    )
    path = state / "decisions" / f"{decision.machine}.json"
    with told(path):
        key = (state / "hook.key").read_bytes()
        code = hmac.new(key, _DECISION_MARK + body, hashlib.sha256).hexdigest()
        write_file(path, json_bytes({"decision": body.decode(), "mac": code}))


def read_decision(state: Path, machine: str) -> LastDecision:
    """Return a machine's last decision, which is the agent's own: its code was checked.

    Raises:
        NotFoundError: there is none.
        InputError: it is malformed, another machine's, or its code does not match; or no UUID was given.
        OperationError: it, or the key, cannot be read.
    """
    path = state / "decisions" / f"{checked_uuid(machine)}.json"
    untrusted = loaded(path, MAX_NOTE_BYTES)
    text, code = untrusted.get("decision"), untrusted.get("mac")
    if not isinstance(text, str) or not isinstance(code, str):
        raise InputError(f"{path}: decision and mac: two texts expected")
    body = text.encode(errors="surrogatepass")
    with told(path):
        key = (state / "hook.key").read_bytes()
    expected = hmac.new(key, _DECISION_MARK + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), code.encode(errors="surrogatepass")):
        raise InputError(f"{path}: it is not the agent's: its code does not match")
    found = _decided(body, str(path))
    if found.machine != machine:
        raise InputError(f"{path}: it is another machine's: {found.machine}")
    return found


def _decided(body: bytes, place: str) -> LastDecision:
    """Return what an authenticated body says. Raises InputError."""
    try:
        fields = json.loads(body)
        until = datetime.fromtimestamp(fields.pop("until_s"), UTC)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError) as error:
        raise InputError(f"{place}: no decision: {error}") from error
    return decode(LastDecision, {**fields, "until": until.isoformat()}, place)


def drop_decision(state: Path, machine: str) -> None:
    """Take a machine's last decision back. Raises InputError, OperationError."""
    path = state / "decisions" / f"{checked_uuid(machine)}.json"
    with told(path):
        path.unlink(missing_ok=True)
