"""One line for each entry of the log: when, which machine, what happened, and why.

The entry's body is what another process wrote; names in it may come from a guest, so all is escaped.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from undercroft.cli.render import fleetcells
from undercroft.cli.render.escape import cell_width, escape, harmless
from undercroft.cli.render.page import GAP, Keep, Span, cut, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.model.audit import AuditEntry
from undercroft.model.verdict import Action, Verdict

HEARTBEAT = "alive"
"""What the body of an entry of kind "agent" calls it when there is nothing else to tell."""
_NAME_COLUMNS = 18
_WORD_COLUMNS = 11
_EID_CHARACTERS = 8
_SAID = ("reason", "message", "problem", "error", "text", "detail")
"""Members of a body that say it in words."""

Body = Mapping[str, Any]


def render_entry(entry: AuditEntry, name: str, terminal: Terminal) -> str:
    """Return one entry as one line, with its line feed.

    Args:
        entry: of the log.
        name: what people call its subject; untrusted.
        terminal: where the line goes; on a terminal it is cut to the width.
    """
    body = _body(entry)
    word, text = _KINDS.get(entry.kind, _other)(entry, body)
    shown = cut(escape(name) or "-", _NAME_COLUMNS, terminal.ellipsis)
    cells = (
        (span(f"{entry.at:%H:%M:%S}", Style.DIM), 8),
        (span(shown, Style.HEADING), _NAME_COLUMNS),
        (Span(cut(harmless(word.text), _WORD_COLUMNS, terminal.ellipsis), word.style), _WORD_COLUMNS),
    )
    pieces, used = [], 0
    for cell, width in cells:
        pieces.append(terminal.paint(cell.text, cell.style))
        pieces.append(" " * (max(width - cell_width(cell.text), 0) + GAP))
        used += max(width, cell_width(cell.text)) + GAP
    said = harmless(text)
    if terminal.width is not None:
        said = cut(said, max(terminal.width - used, 1), terminal.ellipsis, keep=Keep.HEAD)
    return ("".join(pieces) + said).rstrip() + "\n"


def is_heartbeat(entry: AuditEntry) -> bool:
    """Tell whether an entry only says that the agent is there, which nobody wants to read every minute."""
    return entry.kind == "agent" and _body(entry).get("agent") == HEARTBEAT


def render_day(entry: AuditEntry, terminal: Terminal) -> str:
    """Return the line that stands before the first entry of a day."""
    return terminal.paint(f"{entry.at:%Y-%m-%d}", Style.DIM) + "\n"


def json_line(entry: AuditEntry, name: str) -> str:
    """Return one entry as one line of JSON, ASCII only; its body is as it was logged."""
    return (
        json.dumps(
            {
                "number": entry.number,
                "at": entry.at.isoformat(),
                "kind": entry.kind,
                "subject": entry.subject,
                "name": name,
                "body": _body(entry),
                "digest": entry.digest,
            }
        )
        + "\n"
    )


def _body(entry: AuditEntry) -> dict[str, Any]:
    try:
        body = json.loads(entry.body)
    except ValueError:
        return {"text": entry.body}
    return body if isinstance(body, dict) else {"text": entry.body}


def _decision(entry: AuditEntry, body: Body) -> tuple[Span, str]:
    del entry
    action = str(body.get("action", ""))
    style = fleetcells.ACTION_STYLES[Action(action)] if action in set(Action) else Style.PLAIN
    held = "; its network waits until it is seen how it began" if body.get("hold") else ""
    by = str(body.get("by", "agent"))
    return span(action or "decision", style), f"{_said(body)}{held}{'' if by == 'agent' else f' (by {by})'}"


def _verdict(entry: AuditEntry, body: Body) -> tuple[Span, str]:
    del entry
    verdict = str(body.get("verdict", ""))
    style = fleetcells.VERDICT_STYLES[Verdict(verdict)] if verdict in set(Verdict) else Style.PLAIN
    before = body.get("before")
    was = f"was {before[0]}" if isinstance(before, list) and before and before[0] != verdict else ""
    start = f"a start would meet {body.get('action', '?')}"
    return span(verdict or "verdict", style), "; ".join(filter(None, (str(body.get("why", "")), was, start)))


def _execution(entry: AuditEntry, body: Body) -> tuple[Span, str]:
    del entry
    eid = _short(body.get("eid"))
    if body.get("refused"):
        return span("refused", Style.BAD), f"its start: {_said(body)}"
    if body.get("pending"):
        return span("announced", Style.DIM), f"a {body['pending']} is about to begin"
    changed = body.get("changed")
    if isinstance(changed, dict):
        return span("concluded"), f"{eid}: {_pairs(changed)}"
    origin, parent = body.get("origin", "?"), _short(body.get("parent"))
    sure = "" if body.get("certain", True) else ", not certain"
    evidence = body.get("evidence")
    why = f"; {evidence[0]}" if isinstance(evidence, list) and evidence else ""
    return span("began", Style.GOOD), f"{eid} as {origin}{f' of {parent}' if parent else ''}{sure}{why}"


def _ending(entry: AuditEntry, body: Body) -> tuple[Span, str]:
    del entry
    return span("ended", Style.DIM), f"{_short(body.get('eid'))} {body.get('ending', '')}"


def _hold(entry: AuditEntry, body: Body) -> tuple[Span, str]:
    del entry
    if not body.get("held"):
        return span("net open", Style.GOOD), _said(body)
    pending = bool(body.get("pending"))
    return (span("net pending", Style.WARNING) if pending else span("net closed", Style.BAD)), _said(body)


def _alarm(entry: AuditEntry, body: Body) -> tuple[Span, str]:
    del entry
    return span("ALARM", Style.ALARM), _said(body)


def _command(entry: AuditEntry, body: Body) -> tuple[Span, str]:
    target = body.get("snapshot") or body.get("state") or ""
    parts = [f"to {target}"] if target else []
    parts += [str(body["outcome"])] if body.get("outcome") else []
    parts.append(f"by {body.get('by', '?')}{', against the policy' if body.get('overrides') else ''}")
    said = ", ".join(parts) + "".join(f": {body[name]}" for name in ("reason", "detail") if body.get(name))
    return span(entry.kind, Style.WARNING), said


def _agent(entry: AuditEntry, body: Body) -> tuple[Span, str]:
    del entry
    reason = f": {body['reason']}" if body.get("reason") else ""
    return span("agent", Style.NAME), f"{body.get('agent', '?')}{reason}"


def _policy(entry: AuditEntry, body: Body) -> tuple[Span, str]:
    if body.get("problem"):
        mistakes = "; ".join(str(body["problem"]).split("\n"))  # an entry is one line
        return span("policy", Style.BAD), f"not taken over, the last good one holds: {mistakes}"
    digest = _short(body.get("digest"))
    return span("policy", Style.NAME), f"{digest} holds now" if digest else _other(entry, body)[1]


def _restart(entry: AuditEntry, body: Body) -> tuple[Span, str]:
    del entry
    last = body.get("last")
    was = f"; the last head before is of entry {last.get('number')}" if isinstance(last, dict) else ""
    told = f"the log's signing began anew, by {body.get('by', '?')}: {body.get('reason', '')}{was}"
    return span("RESTART", Style.ALARM), told


def _other(entry: AuditEntry, body: Body) -> tuple[Span, str]:
    return span(entry.kind, Style.NAME), _said(body)


def _said(body: Body) -> str:
    """Return what a body says in words, else all of its simple members."""
    words = [str(body[name]) for name in _SAID if isinstance(body.get(name), str) and body[name]]
    return words[0] if words else _pairs(body)


def _pairs(body: Body) -> str:
    return ", ".join(_pair(body))


def _pair(body: Body) -> Iterator[str]:
    for name, value in body.items():
        if isinstance(value, str | int | float) and value != "" and name != "name":
            yield f"{name} {value}"


def _short(eid: object) -> str:
    return str(eid)[:_EID_CHARACTERS] if eid else ""


_KINDS: Mapping[str, Callable[[AuditEntry, Body], tuple[Span, str]]] = {
    "decision": _decision,
    "verdict": _verdict,
    "execution": _execution,
    "ending": _ending,
    "hold": _hold,
    "alarm": _alarm,
    "agent": _agent,
    "policy": _policy,
    "restart": _restart,
    "revert": _command,
    "release": _command,
    "retention": _command,
    "host": _command,
}
