"""Who may get into a machine, and which secrets lie in it, from its files; never a secret itself.

`read_credentials(machine)` gives a `model.credentials.Credentials` for one state, so that two states can be
compared: what a rollback would bring back, and what a snapshot still holds. Reads the account files, SSH
keys, certificates outside the distribution's bundle of authorities, and the usual places of private keys
and tokens. Raises for no content of the disk: what could not be read, and limits that were passed, are in
`problems`.
"""

from undercroft.inventory.credentials.collect import read_credentials

__all__ = ["read_credentials"]
