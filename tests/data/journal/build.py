"""Writes five kernel starts in systemd's export format, from which the two journals here were made.

    python3 build.py | SYSTEMD_JOURNAL_COMPACT=1 systemd-journal-remote -o compact.journal -
    python3 build.py | SYSTEMD_JOURNAL_COMPACT=0 systemd-journal-remote -o regular.journal -
    xz -9e *.journal

systemd-journal-remote 252 stores the message of a kernel that was started again only once.
"""

import sys

STARTS = (
    ("6.1.0-27-amd64", 1_730_000_000),
    ("6.1.0-28-amd64", 1_730_100_000),
    ("6.1.0-27-amd64", 1_730_200_000),
    ("6.1.0-27-amd64", 1_730_300_000),
    ("6.1.0-27-amd64", 1_730_400_000),
)
BUILD = (
    "(debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld (GNU Binutils for Debian) "
    "2.40) #1 SMP PREEMPT_DYNAMIC Debian 6.1.112-1 (2024-09-30)"
)

for boot, (release, started_at_s) in enumerate(STARTS):
    messages = [f"Linux version {release} {BUILD}", *(f"line {line} boot {boot}" for line in range(12))]
    for second, message in enumerate(messages):
        sys.stdout.write(
            f"__REALTIME_TIMESTAMP={(started_at_s + second) * 1_000_000}\n"
            f"__MONOTONIC_TIMESTAMP={second * 1000}\n_BOOT_ID={boot:032x}\n_TRANSPORT=kernel\n"
            f"PRIORITY=5\nMESSAGE={message}\n\n"
        )
