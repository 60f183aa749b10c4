"""Backup jobs: whose one runs on a machine, and the end of ours. Nobody else's job is ever ended."""

import time
from pathlib import Path

from undercroft.adapters.libvirt import domain_xml, scratch
from undercroft.adapters.libvirt.bindings import Domain, Libvirt, code
from undercroft.errors import OperationError

END_TIMEOUT_S = 20.0
_POLL_S = 0.005


def scratch_files(libvirt: Libvirt, domain: Domain) -> tuple[str, ...] | None:
    """Return the scratch files of the domain's backup job, None when it has no such job or is gone.

    Raises libvirt's error when it cannot be asked.
    """
    try:
        untrusted_xml = domain.backupGetXMLDesc()
    except libvirt.libvirtError as error:
        if code(error) == libvirt.VIR_ERR_NO_DOMAIN_BACKUP or not _is_running(libvirt, domain):
            return None
        raise
    return domain_xml.parse_backup_scratch(untrusted_xml)


def end(libvirt: Libvirt, domain: Domain, folder: Path) -> bool:
    """End the domain's backup job if its scratch files lie in `folder`, and wait until it is gone.

    Returns:
        True when there was such a job.

    Raises:
        OperationError: it is still there after `END_TIMEOUT_S`.
        Exception: libvirt's error, where libvirt cannot do it.
    """
    deadline = time.monotonic() + END_TIMEOUT_S
    aborted = False
    while _has_job(libvirt, domain, folder):
        if not aborted:
            _abort(libvirt, domain, folder)
            aborted = True
        if time.monotonic() > deadline:
            raise OperationError(
                f"machine {domain.name()}: its backup job does not end; try virsh domjobabort {domain.name()}"
            )
        time.sleep(_POLL_S)
    return aborted


def _abort(libvirt: Libvirt, domain: Domain, folder: Path) -> None:
    try:
        domain.abortJob()
    except libvirt.libvirtError:
        if _has_job(libvirt, domain, folder):
            raise
        # the machine stopped, and its job with it, after we had looked


def _has_job(libvirt: Libvirt, domain: Domain, folder: Path) -> bool:
    files = scratch_files(libvirt, domain)
    return files is not None and scratch.marked_folder(files) == folder


def _is_running(libvirt: Libvirt, domain: Domain) -> bool:
    try:
        return bool(domain.isActive())
    except libvirt.libvirtError as error:
        if code(error) == libvirt.VIR_ERR_NO_DOMAIN:  # a transient domain is gone when it stops
            return False
        raise
