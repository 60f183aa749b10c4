"""`updateinfo.xml` documents for tests, in the shapes that publishers give them."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass(frozen=True)
class Rpm:
    """A package of an erratum; `evr` is "epoch:version-release"."""

    name: str
    evr: str
    arch: str = "x86_64"

    def xml(self) -> str:
        """Return its element."""
        epoch, _, rest = self.evr.rpartition(":")
        version, _, release = rest.rpartition("-")
        return (
            f"<package name={quoteattr(self.name)} version={quoteattr(version)} release={quoteattr(release)} "
            f'epoch="{epoch or 0}" arch="{self.arch}" src="{self.name}.src.rpm">'
            f"<filename>{escape(self.name)}-{version}-{release}.{self.arch}.rpm</filename>"
            f'<sum type="sha256">{"ab" * 32}</sum></package>'
        )


def erratum(
    ident: str,
    packages: Sequence[Rpm],
    *,
    cves: Sequence[str] = ("CVE-2024-0001",),
    kind: str = "security",
    release: str = "",
    short: str = "",
    name: str = "",
    module: str = "",
    severity: str = "Important",
    issued: str = "2025-02-01 00:00:00",
    title: str = "a security update",
    references: str = "",
) -> str:
    """Return one `<update>` with one collection; `references` is put in as it is."""
    stream = ""
    if module:
        module_name, _, module_stream = module.partition(":")
        stream = (
            f'<module name="{module_name}" stream="{module_stream}" version="1" context="a" arch="x86_64"/>'
        )
    cve_elements = "".join(
        f'<reference href="https://example.org/{cve}" id="{cve}" title="{cve}" type="cve"/>' for cve in cves
    )
    return (
        f'<update from="errata@example.org" status="final" type="{kind}" version="2.0"><id>{ident}</id>'
        f'<title>{escape(title)}</title><issued date="{issued}"/>'
        f"<severity>{severity}</severity><release>{escape(release)}</release><rights>Copyright</rights>"
        f"<description>What was &lt;wrong&gt;.</description>"
        f"<references>{cve_elements}{references}</references>"
        f"<pkglist><collection short={quoteattr(short)}><name>{escape(name)}</name>{stream}"
        f"{''.join(package.xml() for package in packages)}</collection></pkglist></update>\n"
    )


def updateinfo(*errata: str) -> bytes:
    """Return a document of `errata`."""
    return f"{HEAD}<updates>\n{''.join(errata)}</updates>\n".encode()


ORACLE = erratum(
    "ELSA-2023-0302",
    [
        Rpm("libtiff", "4.4.0-5.el9_1"),
        Rpm("libtiff", "4.4.0-5.el9_1", "aarch64"),
        Rpm("libtiff", "4.4.0-5.el9_1", "src"),
        Rpm("libtiff-devel", "4.4.0-5.el9_1"),
    ],
    cves=("CVE-2022-2056", "CVE-2022-2057"),
    release="Oracle Linux 9",
    short="OL9",
    name="Oracle Linux 9",
    severity="Moderate",
    title="ELSA-2023-0302: libtiff security update (MODERATE)",
    issued="2023-01-23 00:00:00",
)
FEDORA = erratum(
    "FEDORA-2025-d2b7d94014",
    [Rpm("timg", "1.6.3-5.fc43")],
    cves=(),
    short="F43",
    name="Fedora 43",
    references='<reference href="https://bugzilla.redhat.com/show_bug.cgi?id=2423183" id="2423183" '
    'type="bugzilla" title="CVE-2025-26794 &amp; CWE-122 in timg"/>',
)
EPEL = erratum(
    "FEDORA-EPEL-2025-0123456789",
    [Rpm("ansible", "1:9.2.0-1.el9")],
    short="EPEL-9",
    name="Fedora EPEL 9",
)
AMAZON = erratum(
    "ALAS2023-2023-001",
    [Rpm("rsyslog", "8.2204.0-3.amzn2023.0.2")],
    cves=("CVE-2022-24903",),
    short="amazon-linux-2023",
    name="Amazon Linux 2023",
    title="Amazon Linux 2023 - ALAS2023-2023-001: Important priority package update for rsyslog",
    issued="2023-02-17 20:41:00",
)
SUSE = erratum(
    "SUSE-SLE-Module-Basesystem-15-SP4-2022-4047",
    [Rpm("libz1", "1.2.11-150000.3.36.1")],
    cves=("CVE-2022-37434",),
    severity="important",
    issued="1667923200",
)
ROCKY = erratum(
    "RLSA-2024:1687",
    [Rpm("nodejs", "1:20.11.1-1.module+el9.3.0+100+aaaa"), Rpm("npm", "1:10.2.4-1.module+el9.3.0+100+aaaa")],
    short="rocky-linux-9-x86-64-appstream-rpms",
    name="Rocky Linux 9 x86_64 AppStream",
    module="nodejs:20",
)


def filling(prefix: str, dist: str, names: Sequence[str], **fields: str) -> list[str]:
    """Return as many errata as make a list a whole one, about packages that nobody has, and about `names`."""
    return [
        erratum(
            f"{prefix}{number:04}",
            [Rpm(name, f"0-1{dist}") for name in (names if number == 1000 else ["zzz"])],
            cves=(f"CVE-2020-{number}",),
            **fields,
        )
        for number in range(1000, 1050)
    ]
