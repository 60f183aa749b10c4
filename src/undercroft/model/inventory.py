"""What is installed in one state of a machine, as the guest's own files record it.

Strings that a guest wrote may hold undecodable bytes as surrogates (PEP 383) and any control
character; they are escaped where they are shown, not here.
"""

from dataclasses import dataclass

from undercroft.model.disk import Coverage


@dataclass(frozen=True, slots=True)
class OsRelease:
    """The operating system, from os-release or one of its fallbacks.

    Attributes:
        ident: os-release ID ("debian", "ubuntu").
        version: VERSION_ID ("12", "22.04"); "" where the release names none (Debian testing).
        codename: VERSION_CODENAME ("bookworm").
        name: PRETTY_NAME.
        source: the path in the guest that it was read from.
    """

    ident: str
    version: str
    codename: str
    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Package:
    """One package that the package manager holds as present.

    Attributes:
        manager: "dpkg", "rpm", "apk", "pacman", "pkg"; of other software "pypi", "npm", "gem", "go", "snap",
            "flatpak", "msi" (a Windows program), "kb" (a Windows update); "repository" for one that dnf has
            enabled.
        name: binary package name.
        version: as the manager compares it (rpm: "epoch:version-release", without an epoch of 0).
        architecture: "amd64", "all", ...
        source: source package name (the binary's where the database names none).
        source_version: source version (the binary's where the database names none).
        status: dpkg's state word: "installed", "unpacked", "half-configured", ...
        origin: what the database says of the origin ("Maintainer" is not one); "" as a rule. rpm: vendor.
        module: rpm's module and stream ("nodejs:18"), "" for a package of none.
    """

    manager: str
    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    status: str = "installed"
    origin: str = ""
    module: str = ""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel on the disk.

    Attributes:
        release: as `uname -r` would print it ("6.1.0-28-amd64").
        image: path of its image in the guest, "" when only modules are left.
        package: the binary package that owns it, "" when none does.
    """

    release: str
    image: str
    package: str


@dataclass(frozen=True, slots=True)
class Boot:
    """Which kernel would start, and which one ran last; "" where the disk does not tell.

    `default_source` and `last_run_source` are the guest's files that said so.
    """

    default_release: str = ""
    default_source: str = ""
    last_run_release: str = ""
    last_run_source: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """One state of one machine.

    Attributes:
        os: None when no release file could be found.
        hostname: /etc/hostname, "" for none.
        packages: by manager, each manager's sorted by name and architecture.
        kernels: sorted by release.
        boot: default and last run kernel.
        unowned_executables: executable files under /usr/local and /opt that no package owns.
        unowned_examples: at most 10 of their paths.
        coverage: what the answer rests on.
    """

    os: OsRelease | None
    hostname: str
    packages: tuple[Package, ...]
    kernels: tuple[Kernel, ...]
    boot: Boot
    unowned_executables: int
    unowned_examples: tuple[str, ...]
    coverage: Coverage
