"""All orders by name."""

from undercroft.advisories import debversion
from undercroft.advisories.orders import apk, build, gem, pacman, pep440, pkg, rpm, semver
from undercroft.advisories.orders.order import Order

DEB = Order("deb", debversion.key, debversion.check)
RPM = Order("rpm", rpm.key, rpm.check)
APK = Order("apk", apk.key, apk.check)
PACMAN = Order("pacman", pacman.key, pacman.check)
PKG = Order("pkg", pkg.key, pkg.check)
BUILD = Order("build", build.key, build.check)
SEMVER = Order("semver", semver.key, semver.check)
PEP440 = Order("pep440", pep440.key, pep440.check)
GEM = Order("gem", gem.key, gem.check)

BY_MANAGER = {"dpkg": DEB, "rpm": RPM, "apk": APK, "pacman": PACMAN, "pkg": PKG} | {
    "pypi": PEP440,
    "npm": SEMVER,
    "go": SEMVER,
    "cargo": SEMVER,
    "gem": GEM,
}
"""The order of each package manager's versions, by `Package.manager`; snap, flatpak, msi and kb have none."""

ORDERS = {order.name: order for order in (DEB, RPM, APK, PACMAN, PKG, BUILD, SEMVER, PEP440, GEM)}
