"""All orders by name."""

from undercroft.advisories import debversion
from undercroft.advisories.orders import apk, build, pacman, rpm
from undercroft.advisories.orders.order import Order

DEB = Order("deb", debversion.key, debversion.check)
RPM = Order("rpm", rpm.key, rpm.check)
APK = Order("apk", apk.key, apk.check)
PACMAN = Order("pacman", pacman.key, pacman.check)
BUILD = Order("build", build.key, build.check)

BY_MANAGER = {"dpkg": DEB, "rpm": RPM, "apk": APK, "pacman": PACMAN}
"""The order of each package manager's versions, by `Package.manager`."""

ORDERS = {order.name: order for order in (DEB, RPM, APK, PACMAN, BUILD)}
