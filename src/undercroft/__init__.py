"""Undercroft: the security layer beneath virtual machines.

`scan`, `packages`, `diff`, `assess`, `open`, `fleet`, `machine` and `firewall_...` are in `undercroft.api`;
they are loaded when first used, so that importing a part of the package stays quick.
"""

from typing import TYPE_CHECKING, Any

from undercroft.version import VERSION

if TYPE_CHECKING:
    from undercroft.api import (
        assess,
        diff,
        firewall_map,
        firewall_status,
        firewall_trace,
        fleet,
        machine,
        open,  # noqa: A004 - undercroft.open
        packages,
        scan,
    )

__all__ = [
    "VERSION",
    "assess",
    "diff",
    "firewall_map",
    "firewall_status",
    "firewall_trace",
    "fleet",
    "machine",
    "open",
    "packages",
    "scan",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from undercroft import api  # noqa: PLC0415 - see above

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
