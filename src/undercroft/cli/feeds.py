"""`undercroft feeds`: advisories into the local database, and what it holds."""

import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from undercroft.advisories.feeds.sources_list import AptSource
from undercroft.cli.exitcode import ExitCode
from undercroft.cli.options import examples, format_option, opened, screen, show
from undercroft.cli.render import data, listing
from undercroft.cli.render.escape import harmless
from undercroft.cli.render.progress import Progress
from undercroft.errors import InputError
from undercroft.model.inventory import Inventory
from undercroft.usecases.feedresult import FeedProgress, FeedResult, Outcome
from undercroft.usecases.paths import own_database, readable_database
from undercroft.usecases.session import Request


@click.group(
    short_help="Update, import and show the advisories.",
    epilog=examples(
        "undercroft feeds update",
        "undercroft feeds update --mirror auto --for web01.qcow2",
        "undercroft feeds import /media/stick/feeds/",
        "undercroft feeds status",
    ),
)
def command() -> None:
    """Update, import and show the advisories that scans are judged by.

    They lie in /var/lib/undercroft/advisories.db for root, in ~/.local/share/undercroft/ for others, or where
    UNDERCROFT_DATABASE points.
    """


@command.command(
    epilog=examples(
        "undercroft feeds update",
        "undercroft feeds update kev epss",
        "undercroft feeds update --mirror auto --for web01.qcow2",
        "undercroft feeds update kev --from kev=https://mirror.example/kev.json",
    ),
)
@click.argument("names", nargs=-1, metavar="[FEED]...")
@click.option("--all", "everything", is_flag=True, help="All publishers, also beside --mirror.")
@click.option("--from", "addresses", multiple=True, metavar="FEED=URL", help="Another address for a feed.")
@click.option(
    "--mirror",
    metavar="auto|FILE|URL",
    help="A distribution mirror: this host's own apt sources, a sources file, or an address with --suite.",
)
@click.option("--suite", "suites", multiple=True, metavar="SUITE", help="Suites of --mirror; repeatable.")
@click.option("--component", "components", multiple=True, default=("main",), show_default=True)
@click.option(
    "--keyring",
    "keyrings",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Keys to trust instead.",
)
@click.option(
    "--for",
    "images",
    multiple=True,
    metavar="IMAGE",
    help="Fetch the changelogs of what is outdated in this machine from the mirror; repeatable.",
)
@click.option("-d", "--domain", "domains", multiple=True, metavar="NAME", help="The same for a domain.")
@click.option("-c", "--connect", default="", metavar="URI", help="libvirt URI, as for virsh.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def update(names: tuple[str, ...], everything: bool, mirror: str | None, quiet: bool, **options: Any) -> int:
    """Fetch advisories: from their publishers, or from a distribution mirror.

    Without a FEED, the publishers for Debian and Ubuntu are asked; others are named: osv:AlmaLinux,
    osv:RockyLinux, osv:RedHat, osv:SUSE, osv:openSUSE, osv:Alpine, alpine-secdb:3.19:main, arch. With
    --mirror only the mirror is asked, unless feeds are named or --all is given. What a mirror's newer
    packages fix is read from their changelogs, for the machines that are named with --for or -d.
    """
    from undercroft.usecases.feedsession import FeedSession  # noqa: PLC0415 - httpx, only for an update
    from undercroft.usecases.publishers import select  # noqa: PLC0415

    if (options["images"] or options["domains"]) and not mirror:
        raise click.UsageError("--for and -d fetch changelogs from a mirror: add --mirror auto")
    overrides = dict(_address(address) for address in options["addresses"])
    publishers = select(names, overrides, os.environ) if names or everything or not mirror else ()
    sources = _sources(mirror, options["suites"], options["components"]) if mirror else []
    with (
        Progress(sys.stderr, enabled=not quiet) as progress,
        FeedSession(_database(), progress=_teller(progress)) as session,
    ):
        results = session.update(publishers)
        if sources:
            results += session.update_from_mirrors(
                sources,
                keyrings=options["keyrings"],
                inventories=_inventories(options["images"], options["domains"], options["connect"]),
            )
    return _tell(results)


@command.command(
    name="import",
    epilog=examples(
        "undercroft feeds import debian-tracker.json DSA.list known_exploited_vulnerabilities.json",
        "undercroft feeds import our-exceptions.openvex.json",
        "undercroft feeds import updateinfo.xml.gz --repository ol9_appstream",
    ),
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--release", default="", metavar="RELEASE", help="Release that errata are for, as oracle:9.")
@click.option("--repository", default="", metavar="NAME", help="Repository that errata are of.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def import_(paths: tuple[Path, ...], release: str, repository: str, quiet: bool) -> int:
    """Import feeds from files: what they are is told from their content.

    Accepted: the Debian tracker's JSON, DSA and DLA lists, OSV archives and records, Alpine's secdb, Arch's
    tracker, CSAF and VEX documents of Red Hat and SUSE, errata of rpm repositories (updateinfo.xml), CVE
    records, CISA KEV, EPSS, OpenVEX documents; folders of them.

    An updateinfo.xml does not tell which repository it is of: it is the folder above its "repodata", or
    --repository. The release is told where the file does not name it.
    """
    from undercroft.usecases.feeds import Named  # noqa: PLC0415 - as the next
    from undercroft.usecases.feedsession import FeedSession  # noqa: PLC0415 - httpx, only for an update

    with (
        Progress(sys.stderr, enabled=not quiet) as progress,
        FeedSession(_database(), progress=_teller(progress)) as session,
    ):
        results = session.import_paths(paths, named=Named(release, repository))
    return _tell(results)


@command.command(
    epilog=examples("undercroft feeds status"),
)
@format_option("table", "json", "yaml")
def status(output_format: str) -> int:
    """Show the feeds in the database, their editions and ages. Exit code 4 where one is stale."""
    from undercroft.store.database import AdvisoryDatabase  # noqa: PLC0415 - not for --help

    now = datetime.now(UTC)
    with AdvisoryDatabase(readable_database(os.environ, is_root=os.geteuid() == 0)) as database:
        statuses = database.feeds(now)
    if output_format == "table":
        show(listing.render_feeds(statuses, screen(), now))
    else:
        show(data.render_feeds(statuses, output_format))
    return ExitCode.INCOMPLETE if any(feed.stale for feed in statuses) or not statuses else ExitCode.CLEAN


@command.command(epilog=examples("undercroft feeds remove osv:DSA-5863-1"))
@click.argument("name", metavar="FEED")
def remove(name: str) -> None:
    """Forget a feed, by its name in `undercroft feeds status`."""
    from undercroft.usecases.feedsession import FeedSession  # noqa: PLC0415 - httpx, only for an update

    with FeedSession(_database()) as session:
        session.remove(name)


def _database() -> str:
    return own_database(os.environ, is_root=os.geteuid() == 0)


def _address(text: str) -> tuple[str, str]:
    name, separator, url = text.partition("=")
    if not separator or not url:
        raise click.UsageError(f"--from {text}: give it as FEED=URL")
    return name, url


def _sources(mirror: str, suites: Sequence[str], components: Sequence[str]) -> list[AptSource]:
    """Return the suites that --mirror means. Raises UsageError, InputError, OperationError."""
    from undercroft.adapters.apt import host_sources, read_sources  # noqa: PLC0415 - only for mirrors

    if mirror == "auto":
        found = host_sources()
    elif "://" in mirror:
        if not suites:
            raise click.UsageError("--mirror URL needs --suite: bookworm, bookworm-security, ...")
        return [AptSource(mirror.rstrip("/"), suite, tuple(components)) for suite in suites]
    else:
        found = read_sources(Path(mirror))
    chosen = [source for source in found if not suites or source.suite in suites]
    if not chosen:
        raise click.UsageError(
            f"--mirror {mirror}: no suite is named there{' that you asked for' if suites else ''}"
        )
    return chosen


def _inventories(images: Sequence[str], domains: Sequence[str], connect: str) -> Iterator[Inventory]:
    """Yield the inventory of every state of the named machines."""
    requests = [Request(images=(image,)) for image in images]
    requests += [Request(domain=domain, connect=connect) for domain in domains]
    for asked in requests:
        with opened(asked, no_sandbox=False) as (machine, _reader):
            for state in machine.states:
                try:
                    yield machine.inventory(state)
                except InputError as error:
                    click.echo(harmless(f"{machine.name}@{state.name}: not looked at: {error}"), err=True)


def _teller(progress: Progress) -> Any:
    def tell(step: FeedProgress) -> None:
        progress.update(step.done, step.total or 0, f"{step.stage} {step.name}")

    return tell


def _tell(results: Sequence[FeedResult]) -> int:
    """Print one line per feed; a refused one makes the exit code 1, since the old data stands."""
    for result in results:
        imported = result.outcome is Outcome.IMPORTED
        what = f"{result.records:>8} records" if imported else f"{result.outcome:>16}"
        # Most reasons begin with the file or address that they are about: it is said once.
        detail = result.detail.removeprefix(f"{result.name}: ")
        line = "  ".join(filter(None, (what, result.name, result.serial, detail)))
        click.echo(harmless(line), err=result.outcome is Outcome.REFUSED)
    return 1 if any(result.outcome is Outcome.REFUSED for result in results) else 0
