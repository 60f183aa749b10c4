"""End of life: until when a release gets security updates, and from whom.

The table is that of the distro-info-data package (debian.csv and ubuntu.csv, version 0.58+deb12u7 of
2026), which Debian and Ubuntu keep together. For Debian the second date is the end of Debian LTS, which
is for everybody; Freexian's ELTS is not counted. For Ubuntu it is the end of ESM, which needs a
subscription; the paid legacy add-on after it is not counted.

The others' dates are those of their publishers, whose pages stand above them in the table, as they were in
the middle of 2026, in part by way of endoflife.date, which reads these pages. The second date is the end of
what needs a subscription: Red Hat's extended life cycle add-on, SUSE's LTSS. Of a rolling release there is no
date.

A release that the table does not hold (testing, unstable, newer than this version of Undercroft, a date that
no publisher has confirmed) has the state "unknown", never "supported".
"""

from datetime import date

from undercroft.advisories.releases import release_key
from undercroft.errors import UnsupportedError
from undercroft.model.finding import EndOfLife
from undercroft.model.inventory import OsRelease

SUPPORTED = "supported"
EXTENDED = "extended"
ENDED = "ended"
UNKNOWN = "unknown"

_DATES = {
    "debian:8": ("2018-06-17", "2020-06-30"),
    "debian:9": ("2020-07-18", "2022-06-30"),
    "debian:10": ("2022-09-10", "2024-06-30"),
    "debian:11": ("2024-08-14", "2026-08-31"),
    "debian:12": ("2026-07-11", "2028-06-30"),
    "debian:13": ("2028-08-09", "2030-06-30"),
    "ubuntu:14.04": ("2019-04-25", "2024-04-25"),
    "ubuntu:14.10": ("2015-07-23", ""),
    "ubuntu:15.04": ("2016-02-04", ""),
    "ubuntu:15.10": ("2016-07-28", ""),
    "ubuntu:16.04": ("2021-04-30", "2026-04-23"),
    "ubuntu:16.10": ("2017-07-20", ""),
    "ubuntu:17.04": ("2018-01-13", ""),
    "ubuntu:17.10": ("2018-07-19", ""),
    "ubuntu:18.04": ("2023-05-31", "2028-04-26"),
    "ubuntu:18.10": ("2019-07-18", ""),
    "ubuntu:19.04": ("2020-01-23", ""),
    "ubuntu:19.10": ("2020-07-17", ""),
    "ubuntu:20.04": ("2025-05-29", "2030-04-23"),
    "ubuntu:20.10": ("2021-07-22", ""),
    "ubuntu:21.04": ("2022-01-20", ""),
    "ubuntu:21.10": ("2022-07-14", ""),
    "ubuntu:22.04": ("2027-06-01", "2032-04-21"),
    "ubuntu:22.10": ("2023-07-20", ""),
    "ubuntu:23.04": ("2024-01-25", ""),
    "ubuntu:23.10": ("2024-07-11", ""),
    "ubuntu:24.04": ("2029-05-31", "2034-04-25"),
    "ubuntu:24.10": ("2025-07-10", ""),
    "ubuntu:25.04": ("2026-01-15", ""),
    "ubuntu:25.10": ("2026-07-09", ""),
    "ubuntu:26.04": ("2031-05-29", "2036-04-23"),
    # "Security support until", wiki.almalinux.org/release-notes; 8 was once to end on 2029-03-01.
    "alma:8": ("2029-05-31", ""),
    "alma:9": ("2032-05-31", ""),
    "alma:10": ("2035-05-31", ""),
    # "End of life", wiki.rockylinux.org/rocky/version.
    "rocky:8": ("2029-05-31", ""),
    "rocky:9": ("2032-05-31", ""),
    "rocky:10": ("2035-05-31", ""),
    # "Maintenance support", then "Extended life cycle support (ELS) add-on",
    # access.redhat.com/support/policy/updates/errata and access.redhat.com/product-life-cycles.
    "rhel:6": ("2020-11-30", "2024-06-30"),
    "rhel:7": ("2024-06-30", "2029-05-31"),
    "rhel:8": ("2029-05-31", "2033-05-31"),
    "rhel:9": ("2032-05-31", "2036-05-31"),
    "rhel:10": ("2035-05-31", "2039-05-31"),
    # wiki.centos.org/About/Product, www.centos.org/cl-vs-cs; of Stream 10 only the year is said.
    "centos:6": ("2020-11-30", ""),
    "centos:7": ("2024-06-30", ""),
    "centos:8": ("2021-12-31", ""),
    "centos-stream:8": ("2024-05-31", ""),
    "centos-stream:9": ("2027-05-31", ""),
    # "Premier support ends", www.oracle.com/a/ocom/docs/elsp-lifetime-069338.pdf, which names months: here
    # their last days. Of extended support no dates are confirmed.
    "oracle:6": ("2021-03-31", ""),
    "oracle:7": ("2024-12-31", ""),
    "oracle:8": ("2029-07-31", ""),
    "oracle:9": ("2032-06-30", ""),
    # docs.fedoraproject.org/en-US/releases/eol and fedorapeople.org/groups/schedule.
    "fedora:38": ("2024-05-21", ""),
    "fedora:39": ("2024-11-26", ""),
    "fedora:40": ("2025-05-13", ""),
    "fedora:41": ("2025-12-15", ""),
    "fedora:42": ("2026-05-13", ""),
    # aws.amazon.com/amazon-linux-2/faqs, docs.aws.amazon.com/linux/al2023/ug/release-cadence.html.
    "amazon:2": ("2026-06-30", ""),
    "amazon:2023": ("2029-06-30", ""),
    # en.opensuse.org/Lifetime; a minor release of 16 has 24 months.
    "opensuse-leap:15.3": ("2022-12-31", ""),
    "opensuse-leap:15.4": ("2023-12-07", ""),
    "opensuse-leap:15.5": ("2024-12-31", ""),
    "opensuse-leap:15.6": ("2026-04-30", ""),
    "opensuse-leap:16.0": ("2027-10-31", ""),
    # "General support ends", then "LTSS ends", www.suse.com/lifecycle; of 15 SP7's LTSS no date is confirmed.
    "sles:12.5": ("2024-10-31", "2027-10-31"),
    "sles:15.3": ("2022-12-31", "2025-12-31"),
    "sles:15.4": ("2023-12-31", "2026-12-31"),
    "sles:15.5": ("2024-12-31", "2027-12-31"),
    "sles:15.6": ("2025-12-31", "2028-12-31"),
    "sles:15.7": ("2031-07-31", ""),
    # "End of support", alpinelinux.org/releases.
    "alpine:3.11": ("2021-11-01", ""),
    "alpine:3.12": ("2022-05-01", ""),
    "alpine:3.13": ("2022-11-01", ""),
    "alpine:3.14": ("2023-05-01", ""),
    "alpine:3.15": ("2023-11-01", ""),
    "alpine:3.16": ("2024-05-23", ""),
    "alpine:3.17": ("2024-11-22", ""),
    "alpine:3.18": ("2025-05-09", ""),
    "alpine:3.19": ("2025-11-01", ""),
    "alpine:3.20": ("2026-04-01", ""),
    "alpine:3.21": ("2026-11-01", ""),
    "alpine:3.22": ("2027-05-01", ""),
    "alpine:3.23": ("2027-11-01", ""),
}


def end_of_life(os: OsRelease | None, on: date) -> EndOfLife:
    """Return until when the release of `os` gets security updates, with its state on the day `on`."""
    dates = _DATES.get(_key(os))
    if dates is None:
        return EndOfLife(None, None, UNKNOWN)
    ends_on = date.fromisoformat(dates[0])
    extended_ends_on = date.fromisoformat(dates[1]) if dates[1] else None
    if on <= ends_on:
        state = SUPPORTED
    elif extended_ends_on is not None and on <= extended_ends_on:
        state = EXTENDED
    else:
        state = ENDED
    return EndOfLife(ends_on, extended_ends_on, state)


def _key(os: OsRelease | None) -> str:
    if os is None:
        return ""
    try:
        return release_key(os)
    except UnsupportedError:
        return ""
