"""How old each kind of feed may grow before its answers count as unknown: one table.

The age counts from the publisher's date where the format has one, else from the import. A limit is the
longest pause that the publisher has been seen to make, with room for a weekend; past it, silence is more
likely a frozen mirror or a broken timer than a quiet week.

| feed | limit | reason |
|---|---|---|
| Debian tracker | 3 days | generated several times a day, without a date of its own |
| DSA list | 21 days | longest pause between advisories since 2018: 10 days |
| DLA list | 70 days | longest pause since 2018: 56 days, while LTS took over bullseye |
| OSV archive | 7 days | Debian's and Ubuntu's records change every day; the newest one dates the archive |
| OSV archive of errata | 30 days | AlmaLinux, Rocky, SUSE, Alpine: records come with updates, with pauses |
| errata of a repository | 45 days | updateinfo.xml: a kernel line of its own gets a build a month |
| Alpine secdb | 14 days | generated when a package is fixed, without a date of its own |
| Arch's tracker | 14 days | generated at each request, without a date of its own |
| Red Hat's repositories | 365 days | it names repositories, and grows with each minor release |
| Microsoft | 45 days | updates come on the second Tuesday of a month |
| OSV record | 30 days | a single file that the user chose; it is a statement of its day |
| CVE records | 7 days | hundreds change every day; the newest one dates the archive |
| KEV | 30 days | longest pause between entries: 26 days |
| EPSS | 7 days | scored every day |
| package index | 10 days | only where Release has no Valid-Until (Debian's own security suite: 7 days) |
| changelogs | 10 years | history does not change; whether it reaches far enough is seen from the index |
| OpenVEX | 10 years | the user's own word, until they replace it |
"""

_DAY_S = 86_400

DEBIAN_TRACKER_S = 3 * _DAY_S
DEBIAN_DSA_S = 21 * _DAY_S
DEBIAN_DLA_S = 70 * _DAY_S
OSV_ARCHIVE_S = 7 * _DAY_S
OSV_ERRATA_S = 30 * _DAY_S
UPDATEINFO_S = 45 * _DAY_S
REPOSITORY_CPES_S = 365 * _DAY_S
MICROSOFT_S = 45 * _DAY_S
OSV_RECORD_S = 30 * _DAY_S
ALPINE_SECDB_S = 14 * _DAY_S
ARCH_S = 14 * _DAY_S
CVE_S = 7 * _DAY_S
KEV_S = 30 * _DAY_S
EPSS_S = 7 * _DAY_S
PACKAGE_INDEX_S = 10 * _DAY_S
CHANGELOGS_S = 3650 * _DAY_S
OPENVEX_S = 3650 * _DAY_S
