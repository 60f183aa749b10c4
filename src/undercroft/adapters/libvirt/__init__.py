"""libvirt: machines by name, ID or UUID, their disks, and a running one held at one point in time.

    with LibvirtHypervisor() as hypervisor:
        machine = hypervisor.find("web01")
        if machine.running:
            with hypervisor.point_in_time(machine) as moment:
                connection = moment.connect("vda")   # NBD export "vda"

The fleet's side is imported by itself, as it loads asyncio, which a scan does without:

    from undercroft.adapters.libvirt.fleet import LibvirtFleet

    with LibvirtFleet() as fleet:
        survey = fleet.survey()
        async for event in fleet.events(): ...

`find` needs a read-only connection; `point_in_time` needs one that may write. No method of
`LibvirtHypervisor` changes a machine's definition or its disks, and nothing here opens an image.
"""

from undercroft.adapters.libvirt.hypervisor import LibvirtHypervisor, default_uri
from undercroft.adapters.libvirt.scratch import ScratchLimits

__all__ = ["LibvirtHypervisor", "ScratchLimits", "default_uri"]
