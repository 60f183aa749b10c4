"""CSAF documents of Red Hat's and SUSE's shape, made small."""

import json
from collections.abc import Iterable

RHEL9 = ("BaseOS-9.4.0.Z.MAIN", "cpe:/o:redhat:enterprise_linux:9::baseos")
APPSTREAM8 = ("AppStream-8.10.0.Z.MAIN", "cpe:/a:redhat:enterprise_linux:8::appstream")
EUS92 = ("BaseOS-9.2.0.Z.EUS", "cpe:/o:redhat:rhel_eus:9.2::baseos")
UNFIXED9 = ("red_hat_enterprise_linux_9", "cpe:/o:redhat:enterprise_linux:9")
SLE = ("SUSE Linux Enterprise Module for Basesystem 15 SP6", "cpe:/o:suse:sle-module-basesystem:15:sp6")
LTSS = ("SUSE Linux Enterprise Server 15 SP4-LTSS", "cpe:/o:suse:sles-ltss:15:sp4")
OTHER = ("openshift-4", "cpe:/a:redhat:openshift:4")

Component = tuple[str, str]
"""(product id, package URL or "")."""


def rpm(name: str, version: str = "", arch: str = "x86_64", epoch: int = 0, module: str = "") -> Component:
    """Return a component with Red Hat's kind of package URL."""
    query = (
        f"arch={arch}" + (f"&epoch={epoch}" if epoch else "") + (f"&rpmmod={module}:1:2" if module else "")
    )
    path = f"pkg:rpm/redhat/{name}" + (f"@{version.replace('+', '%2B')}" if version else "")
    ident = f"{name}-{epoch}:{version}.{arch}" if version else name
    return ident, f"{path}?{query}"


def named(name: str) -> Component:
    """Return a component that has a name only, as in SUSE's older documents."""
    return name, ""


class Document:
    """A document that grows by what is said of products.

    Args:
        ident: CVE number of a VEX document, else the advisory's id.
        publisher: "redhat" or "suse".
    """

    def __init__(self, ident: str = "CVE-2024-0001", publisher: str = "redhat") -> None:
        self._ident, self._publisher = ident, publisher
        self._products: dict[str, str] = {}
        self._components: dict[str, str] = {}
        self._relations: list[tuple[str, str, str]] = []
        self._statuses: dict[str, list[str]] = {}
        self._remediations: list[dict[str, object]] = []
        self.written_at = "2025-02-10T12:00:00+00:00"
        self.impact = "Important"

    def relate(self, product: tuple[str, str], component: Component) -> str:
        """Return the id of a component in a product, both put into the tree."""
        self._products[product[0]] = product[1]
        self._components[component[0]] = component[1]
        ident = f"{product[0]}:{component[0]}"
        self._relations.append((ident, component[0], product[0]))
        return ident

    def relate_module(self, product: tuple[str, str], module: str, component: Component) -> str:
        """Return the id of a component in a module in a product, in two steps."""
        name, _, stream = module.partition(":")
        within = self.relate(product, (f"{module}:810:a", f"pkg:rpmmod/redhat/{name}@{stream}%3A810%3Aa"))
        self._components[component[0]] = component[1]
        ident = f"{within}:{component[0]}"
        self._relations.append((ident, component[0], within))
        return ident

    def relate_package_of_module(self, product: tuple[str, str], module: str, component: Component) -> str:
        """Return the id of the same, with the package put into the module first."""
        name, _, stream = module.partition(":")
        self._products[product[0]] = product[1]
        self._components[f"{module}:810:a"] = f"pkg:rpmmod/redhat/{name}@{stream}%3A810%3Aa"
        self._components[component[0]] = component[1]
        inner = f"{module}:{component[0]}"
        self._relations.append((inner, component[0], f"{module}:810:a"))
        ident = f"{product[0]}:{inner}"
        self._relations.append((ident, inner, product[0]))
        return ident

    def say(self, status: str, *idents: str) -> "Document":
        """Put products under a status."""
        self._statuses.setdefault(status, []).extend(idents)
        return self

    def remedy(self, category: str, details: str, idents: Iterable[str], url: str = "") -> "Document":
        """Add a remediation."""
        entry = {"category": category, "details": details, "product_ids": list(idents), "url": url}
        self._remediations.append(entry | {"date": "2025-01-15T00:00:00+00:00"})
        return self

    def content(self) -> dict[str, object]:
        """Return the document as JSON values."""
        is_vex = self._ident.startswith("CVE-")
        return {
            "document": {
                "category": "csaf_vex" if is_vex else "csaf_security_advisory",
                "csaf_version": "2.0",
                "publisher": {"category": "vendor", "namespace": f"https://www.{self._publisher}.com"},
                "title": "openssl: a fault",
                "tracking": {
                    "id": self._ident,
                    "initial_release_date": "2025-01-10T00:00:00+00:00",
                    "current_release_date": self.written_at,
                },
            },
            "product_tree": {
                "branches": [{"category": "vendor", "name": "vendor", "branches": list(self._branches())}],
                "relationships": [
                    {
                        "category": "default_component_of",
                        "full_product_name": {"name": ident, "product_id": ident},
                        "product_reference": part,
                        "relates_to_product_reference": whole,
                    }
                    for ident, part, whole in self._relations
                ],
            },
            "vulnerabilities": [
                {
                    "cve": self._ident if is_vex else "CVE-2024-0001",
                    "product_status": self._statuses,
                    "remediations": self._remediations,
                    "threats": [{"category": "impact", "details": self.impact}],
                    "release_date": "2025-01-05T00:00:00+00:00",
                }
            ],
        }

    def _branches(self) -> Iterable[dict[str, object]]:
        for ident, cpe in self._products.items():
            helper = {"product_identification_helper": {"cpe": cpe}} if cpe else {}
            product = {"name": ident, "product_id": ident} | helper
            yield {"category": "product_name", "name": ident, "product": product}
        for ident, purl in self._components.items():
            helper = {"product_identification_helper": {"purl": purl}} if purl else {}
            product = {"name": ident, "product_id": ident} | helper
            yield {"category": "product_version", "name": ident, "product": product}

    def encoded(self) -> bytes:
        """Return the document as a file's bytes."""
        return json.dumps(self.content()).encode()
