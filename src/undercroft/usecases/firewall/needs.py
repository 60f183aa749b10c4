"""What the filter's table needs of a kernel, and what helps where it is missing."""

from undercroft.errors import OperationError
from undercroft.firewall.policy import FirewallPolicy
from undercroft.ports.packetfilter import FilterFeatures

KEY_BYTES = 44
"""Of the longest key: two IPv6 addresses, protocol and two ports."""

_KERNEL = "boot Linux 5.3 or later with CONFIG_NF_TABLES_BRIDGE"
_QUIET = "or apply a policy with `firewall_log: {packets: 0}`"


def check_features(features: FilterFeatures, policy: FirewallPolicy) -> None:
    """Check that a kernel can hold a policy's table.

    Raises:
        OperationError: it lacks something, which is named with its cure.
    """
    lacking = [
        (not features.verdict_maps, "verdict maps", _KERNEL),
        (features.concatenation_bytes < KEY_BYTES, f"sets with keys of {KEY_BYTES} bytes", _KERNEL),
        (not features.dynamic_sets, "dynamic sets", _KERNEL),
        # Openings have a rate where the table remembers them itself.
        (not features.rate_limits and not features.conntrack, "rate limits", "load its module nft_limit"),
    ]
    if policy.log.packets:
        lacking += [
            (not features.rate_limits, "rate limits", f"load its module nft_limit, {_QUIET}"),
            (not features.logs, "logs", f"load its module nft_log, {_QUIET}"),
        ]
    for missing, name, cure in lacking:
        if missing:
            raise OperationError(f"firewall: this kernel has no {name} in the bridge family: {cure}")
