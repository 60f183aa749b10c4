"""What has to hold for a certificate of the filter to mean anything, and what none says anything about."""

ASSUMPTIONS = (
    "the kernel evaluates nf_tables bytecode as Linux 6's net/netfilter does, on a host of its byte order",
    "the table was read from the kernel as it is, and nobody has changed it since that generation",
    "only the filter sets marks of its range (0x5543 above), and the host keeps them while it routes",
    "a frame's VLAN tag is the same at all hooks: the bridges filter no VLANs",
    "nothing takes, changes or delivers packets around the bridge's hooks: see the surroundings",
    "packets are of at most 65,535 bytes",
    "nothing puts extension headers into a machine's IPv6 packet between the first hook and the later ones",
    "what is in a dynamic set was put there by these rules, within its timeout",
    "the fleet is as it was given: addresses and labels are the record's",
)
NOT_COVERED = (
    "what is logged, and at which rate",
    "what an allowed service does, and what a machine may learn from timing",
    "flows that were opened before an earlier policy ended: answers pass by the present policy",
    "frames to 01:80:c2:00:00:00 and 01:80:c2:00:00:0e from ports that do not forward these groups",
    "packet sockets of the host's own programs, and devices on a port in another network namespace",
    "interfaces that are no ports of a bridge: direct, hostdev, vhost-user, user-mode",
    "sizes of sets, and the rate of openings: what finds no room, or comes too fast, is denied",
)
