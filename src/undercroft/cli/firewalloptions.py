"""What the firewall's commands share: the option that names a policy, and what this host knows of itself."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from undercroft.errors import UndercroftError

if TYPE_CHECKING:
    from undercroft.firewall.kernel import Ruleset
    from undercroft.firewall.policy import Address

policy_option = click.option(
    "--policy", "path", type=click.Path(path_type=Path), metavar="FILE|FOLDER", help="This host's by default."
)
"""For commands that read a policy file."""

asked_policy_option = click.option(
    "--policy",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="A policy that is not applied, instead of the one in force.",
)
"""For commands that ask the policy in force."""


def own_addresses() -> "Mapping[str, tuple[Address, ...]]":
    """Return this host's addresses by its name. Raises OperationError."""
    from undercroft.adapters.hostnetwork import host_addresses  # noqa: PLC0415 - not for --help

    return {socket.gethostname(): host_addresses()}


def kernel_table(host: str) -> "Ruleset | str":
    """Return the kernel's table where `host` is this one and it may be read, else why not."""
    here = socket.gethostname()
    if host != here:
        return f"its host is {host}, this one {here}: the kernel there was not asked"
    if os.geteuid() != 0:
        return "only root may read the kernel's table"
    from undercroft.adapters.nftables import Nftables  # noqa: PLC0415 - only for root
    from undercroft.usecases.firewall.showing import kernel_table as read  # noqa: PLC0415

    try:
        with Nftables() as packet_filter:
            return read(packet_filter)
    except UndercroftError as error:
        return f"the kernel's table cannot be read: {error}"
