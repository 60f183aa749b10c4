"""Use cases of the scan, shared by the command line, the API and later the agent.

    target   what the user named: images, or a libvirt domain -> disks and the files that may be opened
    opendisk a disk and its chain, file by file
    opening  files -> descriptors, with everything that can be wrong with a file said in one line
    states   the states that a machine's disks have in common
    machine  an opened machine: inventories, listings and files of any state, through the reader
    report   inventories + advisories -> ScanReport
    feeds    advisories in

Only descriptors that were opened here reach the reader, and only files that the caller or libvirt named
are opened.
"""
