"""Peer: dissect.target printing the packages, as a whole process."""

import sys

from dissect.target import Target

target = Target.open(sys.argv[1])
target.apply()
text = target.fs.path("/var/lib/dpkg/status").read_text("utf-8", "replace")
for stanza in text.split("\n\n"):
    fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line[:40])
    if "installed" in fields.get("Status", ""):
        print(fields["Package"], fields["Version"])
