"""`undercroft policy`: whether a policy is one, and why a verdict is what it is."""

from datetime import UTC, datetime
from pathlib import Path

import click

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.fleetoptions import record_option
from undercroft.cli.options import examples, format_option, screen, show
from undercroft.cli.render.escape import harmless
from undercroft.model.verdict import Verdict


@click.group(
    short_help="Check a policy, and explain a verdict rule by rule.",
    epilog=examples("undercroft policy check policy.yaml", "undercroft policy explain web01@before-upgrade"),
)
def command() -> None:
    """Check a policy before it is used, and explain the verdict that it comes to.

    docs/POLICY.md has every key with its default.
    """


@command.command(
    short_help="Check a policy: what it means, or all that is wrong with it.",
    epilog=examples(
        "undercroft policy check policy.yaml", "undercroft policy check /etc/undercroft/policy.d"
    ),
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE|FOLDER...")
def check(paths: tuple[Path, ...]) -> int:
    """Check FILE, a folder of *.yaml, or several that are one policy in this order.

    Prints what it means, and which exceptions end soon; or everything that is wrong with it, a line each.
    Flows that the firewall's part allows and forbids at once are named.
    """
    from undercroft.cli.render.firewallplan import render_firewall_policy  # noqa: PLC0415 - not for --help
    from undercroft.cli.render.verdicts import render_policy  # noqa: PLC0415
    from undercroft.firewall import reading as firewall  # noqa: PLC0415
    from undercroft.firewall.policy import FirewallPolicy  # noqa: PLC0415
    from undercroft.steady import reading  # noqa: PLC0415
    from undercroft.usecases.fleet.verdicts.policyfile import read_texts  # noqa: PLC0415

    today = datetime.now(UTC).date()
    texts = [text for path in paths for text in read_texts(path)]
    found = reading.check(texts, today)
    traffic = firewall.check(texts)
    for problem in dict.fromkeys((*found.problems, *traffic.problems)):
        click.echo(harmless(str(problem)), err=True)
    if found.policy is None or traffic.policy is None:
        return ExitCode.ERROR
    show(render_policy(found.policy, screen(), today))
    if traffic.policy.digest != FirewallPolicy().digest:
        show(render_firewall_policy(traffic.policy, screen()))
    return ExitCode.CLEAN


@command.command(
    short_help="Why the verdict on a machine or a state, rule by rule.",
    epilog=examples(
        "undercroft policy explain web01",
        "undercroft policy explain web01@before-upgrade -v",
        "undercroft policy explain /var/lib/libvirt/images/old.qcow2 -f json",
    ),
)
@click.argument("reference", metavar="NAME[@STATE]")
@format_option("table", "json", "yaml")
@click.option("-v", "--verbose", is_flag=True, help="List all that each rule rests on.")
@record_option
def explain(reference: str, output_format: str, verbose: bool, database: str) -> int:
    """Explain the last verdict on a machine, a snapshot, a template or an image, rule by rule.

    Exit code 4: the verdict is unknown.
    """
    from undercroft.usecases.fleet.verdicts.explain import explain as explained_by  # noqa: PLC0415
    from undercroft.usecases.fleet.views.existing import existing_records  # noqa: PLC0415 - not needed for --help

    with existing_records(database) as records, records.reading() as record:
        explained = explained_by(record, reference)
    if output_format == "table":
        from undercroft.cli.render.verdicts import render_explanation  # noqa: PLC0415

        show(render_explanation(explained, screen(), verbose=verbose))
    else:
        from undercroft.cli.render import data  # noqa: PLC0415

        judgement = explained.judgement
        show(
            data.render_value(
                "undercroft/judgement/1",
                judgement,
                output_format,
                name=harmless(explained.subject.name),
                kind=explained.subject.kind.value,
                why=harmless(judgement.why),
            )
        )
    return ExitCode.INCOMPLETE if explained.judgement.verdict is Verdict.UNKNOWN else ExitCode.CLEAN
