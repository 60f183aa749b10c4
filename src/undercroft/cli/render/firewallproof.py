"""What a proof of the filter came to, for people: the certificate, or a counterexample with its packet."""

from collections.abc import Sequence

from undercroft.assurance.firewall.certificate import Certificate, Counterexample, Standing
from undercroft.assurance.firewall.examplepacket import Example
from undercroft.assurance.firewall.hostfindings import Danger, Finding, folded
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.frame import frame_lines
from undercroft.cli.render.page import Page, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.usecases.firewall.elementwords import element_words
from undercroft.usecases.firewall.proving import Proven

_STANDINGS = {
    Standing.CERTIFIED: ("certified", Style.GOOD, "this host filters as the policy says"),
    Standing.RESERVED: ("certified with reservations", Style.WARNING, "what could not be told may change it"),
    Standing.VOID: ("void", Style.WORST, "the table is the policy, and what is around it defeats it"),
    Standing.TABLE: ("the table alone", Style.WARNING, "what is around it was not looked at"),
}
_DANGERS = {
    Danger.BYPASS: Style.WORST,
    Danger.REWRITE: Style.WORST,
    Danger.ASSUMPTION: Style.BAD,
    Danger.UNKNOWN: Style.WARNING,
    Danger.COPY: Style.WARNING,
    Danger.DISTURBANCE: Style.WARNING,
}
_KEY_CHARS = 200
"""Of an element's key that are shown."""
_FRAME_BYTES = 128
"""Of a frame that are shown; zeros at its end are left out."""


def render_proven(proven: Proven, terminal: Terminal, *, verbose: bool = False) -> str:
    """Return what was proven as text: the answer first; with `verbose` the whole certificate."""
    page = Page(terminal)
    if isinstance(proven.answer, Counterexample):
        _counterexample(page, proven.answer)
    else:
        _certificate(page, proven.answer, verbose=verbose)
    _findings(page, proven.findings)
    return page.text()


def render_certificate(certificate: Certificate, terminal: Terminal, *, verbose: bool = False) -> str:
    """Return a certificate that somebody has verified, with its findings."""
    page = Page(terminal)
    _certificate(page, certificate, verbose=verbose)
    _findings(page, certificate.findings)
    return page.text()


def _certificate(page: Page, certificate: Certificate, *, verbose: bool) -> None:
    word, style, says = _STANDINGS[certificate.standing]
    page.paragraph(
        span(word, style),
        span(f"  {escape(certificate.host)}, generation {certificate.generation}", Style.HEADING),
        span(f": {says}"),
    )
    shown = sum(theorem.cases for theorem in certificate.theorems)
    page.paragraph(
        span(
            f"policy {certificate.policy_digest[:12]}, {certificate.elements:,} elements,"
            f" {len(certificate.theorems)} theorems over {shown:,} cases,"
            f" {certificate.proven_at:%Y-%m-%d %H:%M:%S %Z}",
            Style.DIM,
        ),
        indent=2,
        hang=2,
    )
    signed = f"signed with {certificate.key}" if certificate.signature else "not signed"
    page.paragraph(span(signed, Style.DIM), indent=2)
    if not verbose:
        page.paragraph(span("-v: what was shown, what is assumed, what is not covered", Style.DIM), indent=2)
        return
    shown_lines = [f"{item.name}: {item.says} ({item.cases:,})" for item in certificate.theorems]
    for heading, lines in (
        ("SHOWN", shown_lines),
        ("ASSUMED", certificate.assumptions),
        ("NOT COVERED", certificate.not_covered),
    ):
        page.heading(span(heading, Style.HEADING))
        for line in lines:
            page.paragraph(span(harmless(line)), indent=2, hang=2)


def _counterexample(page: Page, found: Counterexample) -> None:
    page.paragraph(span("not proven", Style.WORST), span(f"  {harmless(found.theorem)}", Style.HEADING))
    page.paragraph(span(harmless(found.says)), indent=2, hang=2)
    if found.set_name:
        page.paragraph(
            span("element "),
            span(harmless(element_words(found.set_name, found.key))[:_KEY_CHARS], Style.NAME),
            span(f" of {escape(found.set_name)}"),
            span(f": the policy has {harmless(found.expected)}, the kernel {harmless(found.found)}"),
            indent=2,
            hang=2,
        )
    if found.packet is not None:
        _packet(page, found, found.packet)
    else:
        page.paragraph(span("No packet was found that it shows with.", Style.DIM), indent=2)


def _packet(page: Page, found: Counterexample, packet: Example) -> None:
    page.heading(
        span("A PACKET", Style.HEADING),
        span(f"  {harmless(packet.input_name) or 'the host'} "),
        span(page.terminal.arrow),
        span(f" {harmless(packet.output_name) or 'the host'}: the kernel "),
        span(_word(found.kernel_passes), Style.BAD),
        span(" it, the policy "),
        span(_word(found.policy_passes), Style.GOOD),
        span(" it"),
    )
    for line in frame_lines(packet.frame):
        page.paragraph(span(harmless(line)), indent=2, hang=2)
    if packet.remembered:
        names = ", ".join(sorted({name for name, _ in packet.remembered}))
        page.paragraph(span(f"while there is an entry for it in {escape(names)}", Style.DIM), indent=2)
    rest = packet.frame.rstrip(b"\0")[:_FRAME_BYTES]
    more = "" if len(rest) == len(packet.frame) else " ...; -f json has all of it"
    page.paragraph(span(rest.hex() + more, Style.DIM), indent=2, hang=2)


def _findings(page: Page, findings: Sequence[Finding]) -> None:
    told = folded(findings)
    if not told:
        return
    page.heading(span("AROUND THE TABLE", Style.HEADING))
    for finding in told:
        page.paragraph(
            span(finding.danger.value, _DANGERS[finding.danger]),
            span(f"  {harmless(finding.thing)}", Style.NAME),
            span(f": {harmless(finding.found)}; {harmless(finding.cure)}"),
            indent=2,
            hang=2,
        )


def _word(passes: bool) -> str:
    return "passes" if passes else "drops"
