"""The one tree of errors that callers of Undercroft may see.

Every message names the thing, says what was found there and what to do about it.
`exit_code` is what the command line ends with, `http_status` what a service answers.
"""


class UndercroftError(Exception):
    """Base of all errors that Undercroft raises on purpose."""

    exit_code = 1
    http_status = 500


class InputError(UndercroftError):
    """Bytes or values from outside are malformed, or larger than a named limit allows."""

    http_status = 422


class UnsupportedError(InputError):
    """A well-formed thing that this version cannot read (a format, a feature, an architecture).

    Whoever catches it reports the thing as unread. It never counts as empty.
    """


class NotFoundError(UndercroftError):
    """A named thing does not exist: a file, a machine, a state, a path in a guest."""

    exit_code = 3
    http_status = 404


class DeniedError(UndercroftError):
    """The host or a policy forbids it: no permission, no sandbox, an untrusted path."""

    http_status = 403


class StateError(UndercroftError):
    """The request contradicts recorded state: rollback, replay, conflict, a serial that goes back."""

    http_status = 409


class OperationError(UndercroftError):
    """The host or a service failed: libvirt, the sandbox, the network, a full disk."""

    http_status = 502


class DamagedError(OperationError):
    """A row of the record does not hold what it should: that row is lost, and the record answers."""


class BusyError(OperationError):
    """A job is in the way that ends by itself soon: whoever can wait tries again."""

    http_status = 503
