"""nftables over netlink, with a codec of our own: no library, no process, and nothing left out when reading.

    packet_filter = Nftables()
    packet_filter.replace(Ruleset(table, elements))
    packet_filter.change(table, adds={"ports": {key: mark}}, removes={})
    held = packet_filter.read("undercroft")

`codec`, `sets` and `expressions` turn `firewall.kernel`'s values into attributes and back, one to one: what
this version does not know is `Unknown` in a rule, or named in a set's `unknown`. `difference` makes one batch
of two tables, `wire` sends it and tells what the kernel answered. `bystander` lets a table be read while
others change theirs.
"""

from undercroft.adapters.nftables.connection import Nftables

__all__ = ["Nftables"]
