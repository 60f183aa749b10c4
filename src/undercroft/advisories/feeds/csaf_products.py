"""A CSAF document's products: which release and stream, which package, of which module, in which version.

Follows CSAF 2.0, 3.2.2 (product tree), with the publishers' habits, seen in their documents: a product of a
distribution has a CPE; a component has a package URL; a relationship puts the component into the product,
for a module in two steps (package in module, module in repository), whichever of them comes first. Red Hat
names a module in three ways: by that second step, as "pkg:rpmmod/redhat/NAME:STREAM/PACKAGE", and as the
qualifier "rpmmod". SUSE's older documents give components no URL but a name
("libz1-1.2.13-150500.2.3.x86_64").

CPEs to releases: `cpe:/o:redhat:enterprise_linux:9::baseos` and the other repositories of one release are
that release; extended update support and the like are streams of it, which need a subscription.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from undercroft.advisories.feeds import fields
from undercroft.advisories.feeds.releases import suse_version
from undercroft.errors import InputError
from undercroft.model.schema import Json

MAX_PRODUCTS = 500_000
MAX_DEPTH = 32
MAX_STEPS = 4
"""How many relationships may lie between a package and the distribution."""

_REDHAT = re.compile(
    r"cpe:/[oa]:redhat:enterprise_linux:(?P<version>[0-9]{1,2})(?:\.[0-9]{1,2})?(?:::[a-z0-9_-]+)?"
)
_REDHAT_STREAM = re.compile(
    r"cpe:/[oa]:redhat:(?:rhel|enterprise_linux)_(?P<stream>eus|aus|tus|e4s|els)[a-z_]*:(?P<major>[0-9]{1,2})"
    r"(?:\.(?P<minor>[0-9]{1,2}))?(?::[^:]*)?(?::[a-z0-9_-]+)?"
)
_SUSE = re.compile(
    r"cpe:/o:suse:(?P<product>sles|sles_sap|sles-ltss|sle-module-[a-z0-9_-]+|sle_hpc|sle-ha):(?P<major>[0-9]{2})"
    r"(?::sp(?P<pack>[0-9]))?(?P<minor>(?!))?"
)
_LEAP = re.compile(r"cpe:/o:opensuse:leap:(?P<version>[0-9]{1,2}\.[0-9])")
_TUMBLEWEED = "cpe:/o:opensuse:tumbleweed"

_NEVRA = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9+._-]*)-(?P<version>[^-\s/]+-[^-\s/]+)"
    r"\.(?P<arch>x86_64|aarch64|ppc64le|s390x|i[3-6]86|noarch|src)"
)


@dataclass(frozen=True, slots=True)
class Product:
    """A package in a release.

    Attributes:
        release: release key.
        stream: "" for everybody's repositories; "eus", "ltss", ... for those of subscribers.
        package: name of a package.
        version: `epoch:version-release`, "" where the document names none.
        architecture: "src" for a source package, "" where the document does not tell.
        module: "NAME:STREAM", "" for none.
    """

    release: str
    stream: str
    package: str
    version: str
    architecture: str
    module: str


@dataclass(frozen=True, slots=True)
class _Helper:
    cpe: str
    purl: str
    name: str


def release_of(cpe: str) -> tuple[str, str] | None:
    """Return (release key, stream) of a CPE 2.2 name, None for a product that is not read."""
    if match := _REDHAT.fullmatch(cpe):
        return f"rhel:{match['version']}", ""
    if match := _REDHAT_STREAM.fullmatch(cpe):
        return f"rhel:{match['major']}", match["stream"]
    if match := _SUSE.fullmatch(cpe):
        return f"sles:{suse_version(match)}", "ltss" if "ltss" in match["product"] else ""
    if match := _LEAP.fullmatch(cpe):
        return f"opensuse-leap:{match['version']}", ""
    return ("opensuse-tumbleweed", "") if cpe == _TUMBLEWEED else None


def minor_of(cpe: str) -> str:
    """Return the minor release of an extended stream's CPE as builds name it ("el9_2"), "" for others."""
    match = _REDHAT_STREAM.fullmatch(cpe)
    return f"el{match['major']}_{match['minor']}" if match and match["minor"] else ""


class ProductTree:
    """The product tree of one document; products are worked out when they are asked for."""

    def __init__(self, untrusted_tree: Mapping[str, Json], place: str) -> None:
        self._place = place
        self._helpers: dict[str, _Helper] = {}
        self._parts: dict[str, tuple[str, str]] = {}
        self._known: dict[str, Product | None] = {}
        self._read_branches(untrusted_tree)
        for relation in fields.as_objects(untrusted_tree.get("relationships"), f"{place}: relationships"):
            product = fields.as_object(relation.get("full_product_name"), f"{place}: full_product_name")
            ident = fields.as_text(product.get("product_id"), f"{place}: product_id")
            part = fields.as_text(relation.get("product_reference"), f"{place}: product_reference")
            whole = fields.as_text(relation.get("relates_to_product_reference"), f"{place}: relates_to")
            self._parts[ident] = (part, whole)
        self.groups = {
            fields.as_text(group.get("group_id"), place): fields.as_texts(group.get("product_ids"), place)
            for group in fields.as_objects(untrusted_tree.get("product_groups"), f"{place}: product_groups")
        }
        if len(self._helpers) + len(self._parts) > MAX_PRODUCTS:
            raise InputError(f"{place}: more than {MAX_PRODUCTS} products")

    def product(self, ident: str) -> Product | None:
        """Return the package that `ident` stands for, None where it is none of a release that is read.

        Raises:
            InputError: its name or version has not the syntax of one.
        """
        if ident not in self._known:
            self._known[ident] = self._product(ident)
        return self._known[ident]

    def releases(self) -> frozenset[str]:
        """Return the releases that the tree names, whatever is said of them."""
        found = (release_of(helper.cpe) for helper in self._helpers.values() if helper.cpe)
        return frozenset(pair[0] for pair in found if pair)

    def _read_branches(self, untrusted_tree: Mapping[str, Json]) -> None:
        waiting = [(branch, 1) for branch in self._branches(untrusted_tree)]
        while waiting:
            branch, depth = waiting.pop()
            if depth > MAX_DEPTH or len(self._helpers) > MAX_PRODUCTS:
                raise InputError(f"{self._place}: a product tree too deep or too large")
            waiting += [(inner, depth + 1) for inner in self._branches(branch)]
            if branch.get("product") is not None:
                product = fields.as_object(branch["product"], f"{self._place}: product")
                untrusted_helper = product.get("product_identification_helper") or {}
                helper = fields.as_object(untrusted_helper, f"{self._place}: helper")
                ident = fields.as_text(product.get("product_id"), f"{self._place}: product_id")
                self._helpers[ident] = _Helper(
                    cpe=fields.as_text(helper.get("cpe"), f"{self._place}: cpe"),
                    purl=fields.as_text(helper.get("purl"), f"{self._place}: purl"),
                    name=fields.as_text(branch.get("name"), f"{self._place}: name"),
                )

    def _branches(self, node: Mapping[str, Json]) -> list[Mapping[str, Json]]:
        return fields.as_objects(node.get("branches"), f"{self._place}: branches")

    def _product(self, ident: str) -> Product | None:
        component, module, whole = self._unfolded(ident)
        helper = self._helpers.get(component)
        scope = release_of(self._helpers[whole].cpe) if whole in self._helpers else None
        if helper is None or scope is None:
            return None
        place = f"{self._place}: {ascii(ident)[:120]}"
        read = _from_purl(helper.purl, place) if helper.purl else _from_name(helper.name, place)
        if read is None:
            return None
        name, version, architecture, own_module = read
        return Product(*scope, name, version, architecture, own_module or module)

    def _unfolded(self, ident: str) -> tuple[str, str, str]:
        """Return (component, module, distribution) of a product: the component's and the outermost ids."""
        component, whole = self._parts.get(ident, ("", ""))
        module = ""
        for _ in range(MAX_STEPS):
            if component not in self._parts:
                break
            component, inner = self._parts[component]
            helper = self._helpers.get(inner)
            module = module or _module_of(helper.purl if helper else "")
        for _ in range(MAX_STEPS):
            if whole not in self._parts:
                break
            part, whole = self._parts[whole]
            helper = self._helpers.get(part)
            module = module or _module_of(helper.purl if helper else "")
        return component, module, whole


def _module_of(purl: str) -> str:
    """Return "NAME:STREAM" of "pkg:rpmmod/redhat/NAME@STREAM:VERSION:CONTEXT", "" for anything else."""
    if not purl.startswith("pkg:rpmmod/redhat/"):
        return ""
    name, _, version = purl.removeprefix("pkg:rpmmod/redhat/").partition("?")[0].partition("@")
    stream = unquote(version).partition(":")[0]
    return f"{unquote(name)}:{stream}" if stream and "/" not in name else ""


def _from_purl(purl: str, place: str) -> tuple[str, str, str, str] | None:
    """Return (name, version, architecture, module) of an rpm's package URL, None for other types."""
    kind, _, rest = purl.partition("/")
    if kind not in {"pkg:rpm", "pkg:rpmmod"}:
        return None
    path, _, query = rest.partition("?")
    path, _, version = path.partition("@")
    *namespace, name = [unquote(part) for part in path.split("/")]
    qualifiers = dict(parse_qsl(query.partition("#")[0], max_num_fields=32))
    module = ":".join(qualifiers.get("rpmmod", "").split(":")[:2])
    if kind == "pkg:rpmmod":
        if len(namespace) < 2:
            return None  # the module itself: its packages are named one by one
        module = namespace[1]
    version = unquote(version)
    epoch = qualifiers.get("epoch", "0")
    if version and epoch not in {"", "0"}:
        version = f"{epoch}:{version}"
    return (
        fields.package(name, place),
        fields.version(version, place) if version else "",
        qualifiers.get("arch", ""),
        module if module.count(":") == 1 else "",
    )


def _from_name(name: str, place: str) -> tuple[str, str, str, str] | None:
    """Return the same of "libz1-1.2.13-150500.2.3.x86_64", or of a bare package name."""
    if match := _NEVRA.fullmatch(name):
        return match["name"], fields.version(match["version"], place), match["arch"], ""
    return (fields.package(name, place), "", "", "") if name and " " not in name else None


def flattened(groups: Mapping[str, list[str]], entry: Mapping[str, Json], place: str) -> Iterator[str]:
    """Yield the product ids of a remediation or threat, those of its groups included."""
    yield from fields.as_texts(entry.get("product_ids"), f"{place}: product_ids")
    for group in fields.as_texts(entry.get("group_ids"), f"{place}: group_ids"):
        yield from groups.get(group, ())
