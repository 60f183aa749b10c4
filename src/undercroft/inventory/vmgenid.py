"""Whether a kernel has a driver for the virtual machine's generation ID (`<genid/>`), by its release alone.

The driver came with Linux 5.18, and each distribution decides where it builds it. Known are Debian 12's
kernels and Debian 13's cloud kernel, in which it was looked for; of any other one nothing is said.
"""

import re

_DEBIAN = re.compile(
    r"(\d{1,3})\.(\d{1,3})\.[0-9]{1,5}(?:\+deb[0-9]{1,2})?(?:-[0-9][0-9a-z.+]{0,20})?(-cloud)?-amd64"
)
_FIRST = (5, 18)
_KNOWN = {((6, 1), False): True, ((6, 1), True): False, ((6, 12), True): True}
"""By version, and whether it is the cloud flavour."""


def has_driver(distribution: str, untrusted_release: str) -> bool | None:
    """Tell whether a kernel has the driver; None where that is not known.

    Args:
        distribution: `OsRelease.ident`.
        untrusted_release: as `uname -r` prints it.
    """
    found = _DEBIAN.fullmatch(untrusted_release[:100])
    if distribution != "debian" or found is None:
        return None
    version, is_cloud = (int(found[1]), int(found[2])), found[3] is not None
    if version < _FIRST:
        return False
    return _KNOWN.get((version, is_cloud))
