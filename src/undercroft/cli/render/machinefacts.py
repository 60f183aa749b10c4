"""What a machine is, for people: its parts, who gets in, and what helps where something is wrong."""

from collections.abc import Iterator, Sequence

from undercroft.cli.render import fleetcells, words
from undercroft.cli.render.channels import genid_word, vault_elsewhere
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.page import Page, span
from undercroft.cli.render.terminal import Style
from undercroft.usecases.fleet.views.values import (
    ChannelRow,
    CheckpointView,
    CredentialsView,
    InterfaceView,
    MachineView,
    Network,
    Protection,
)

_CHECKPOINTS = 8


def facts(page: Page, view: MachineView) -> None:
    """Put what the machine is: system, disks, interfaces, ways in, patch floor."""
    page.heading(span("MACHINE", Style.HEADING))
    for name, text in _named_facts(view):
        page.paragraph(span(f"{name:<12}", Style.DIM), span(text), indent=2, hang=12)


def _named_facts(view: MachineView) -> Iterator[tuple[str, str]]:
    yield "system", escape(view.system) or "unknown"
    yield "last read", fleetcells.ago(view.current.scanned_at, view.taken_at)
    for disk in view.disks:
        chain = "".join(f" on {escape(path)}" for path in disk.chain)
        yield escape(disk.target), f"{escape(disk.path) or 'no file'} ({escape(disk.format) or '?'}){chain}"
    for one in view.interfaces:
        yield "interface", _interface(one)
    yield from named_checkpoints(view.checkpoints)
    if view.addresses:
        yield "addresses", escape(", ".join(view.addresses))
    if view.channel is not None and view.channel.protection is not Protection.OFF:
        yield "randomness", _randomness(view.channel)
    if view.channel is not None and view.channel.elsewhere:
        yield "vault", vault_elsewhere(view.channel)
    if view.exposed:
        yield (
            "exposed",
            f"{escape(', '.join(view.exposed))}: each resume of one draws the same random numbers",
        )
    yield "ways in", _ways_in(view.credentials) if view.credentials else "not read yet"
    yield "patch floor", words.count(view.floor, "package") if view.floor else "none yet"
    marks = [text for text, holds in _marks(view) if holds]
    if view.tainted:
        marks.append(f"tainted: {', '.join(map(escape, view.tainted))}")
    yield "definition", ", ".join(marks)
    yield "UUID", view.uuid
    yield "on record", f"since {words.minute(view.first_seen)}, last surveyed {words.minute(view.last_seen)}"


def named_checkpoints(checkpoints: Sequence[CheckpointView]) -> Iterator[tuple[str, str]]:
    """Yield a name and a text for each of the last checkpoints: what it is called, since when, on which."""
    if (more := len(checkpoints) - _CHECKPOINTS) > 0:
        yield "checkpoint", f"{more:,} earlier ones; -f json lists all"
    for one in checkpoints[-_CHECKPOINTS:]:
        since = f"since {words.minute(one.taken_at)}" if one.taken_at else "since when is not known"
        yield "checkpoint", f"{escape(one.name)} {since}" + (f", on {escape(one.parent)}" * bool(one.parent))


def _interface(one: InterfaceView) -> str:
    interface = one.interface
    where = escape(" ".join(filter(None, (interface.kind, interface.source, interface.tap))))
    passing = "" if one.network is Network.NONE else f": {one.network.value}"
    loose = "" if interface.holdable else "; cannot be held off its network"
    reserved = f"; reserved: {escape(', '.join(interface.addresses))}" if interface.addresses else ""
    return f"{escape(interface.mac) or 'no MAC'} {where}{passing}{loose}{reserved}"


def _randomness(row: ChannelRow) -> str:
    """Return how it stands beneath its guest, and what it has without a helper."""
    word = row.protection.value
    if row.confirmed_at is not None:
        word += f", confirmed {words.minute(row.confirmed_at)}"
    if row.protection in {Protection.PROTECTED, Protection.SILENT, Protection.WAITING}:
        return word
    own = f"<genid/>, {genid_word(row)[0]}" if row.genid else "no <genid/>"
    return f"{word}; {own}" + (f"; {harmless(row.problem)}" if row.problem else "")


def _ways_in(ways: CredentialsView) -> str:
    counts = (
        words.count(ways.logins, "account") + " with a shell",
        words.count(ways.authorized_keys, "authorized key"),
        words.count(ways.host_keys, "host key"),
        words.count(ways.certificates, "certificate"),
        words.count(ways.secrets, "file") + " with secrets",
    )
    return ("" if ways.whole else "at least ") + ", ".join(counts)


def _marks(view: MachineView) -> Iterator[tuple[str, bool]]:
    yield "transient", not view.persistent
    yield "persistent", view.persistent
    yield "autostart", view.autostart
    yield "genid", view.genid
    yield "no genid", not view.genid


def mends(page: Page, view: MachineView) -> None:
    """Put what is not as it should be, each with the command that helps."""
    if not view.mends:
        return
    page.heading(span("WHAT HELPS", Style.HEADING))
    for mend in view.mends:
        page.paragraph(span(harmless(mend.problem)), indent=2, hang=2)
        page.record(span(escape(mend.command), Style.NAME), indent=6)
