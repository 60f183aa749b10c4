"""Peer: a bare script over pytsk3 and libqcow that prints the packages; no sandbox, matching or states."""

import sys

import pyqcow
import pytsk3


class Qcow(pytsk3.Img_Info):
    """A qcow2 image for pytsk3."""

    def __init__(self, path):
        self._file = pyqcow.file()
        self._file.open(path)
        super().__init__(url="", type=pytsk3.TSK_IMG_TYPE_EXTERNAL)

    def read(self, offset, size):
        self._file.seek(offset)
        return self._file.read(size)

    def get_size(self):
        return self._file.get_media_size()


def main(path):
    image = Qcow(path)
    for part in pytsk3.Volume_Info(image):
        try:
            filesystem = pytsk3.FS_Info(image, offset=part.start * 512)
            status = filesystem.open("/var/lib/dpkg/status")
        except OSError:
            continue
        text = status.read_random(0, status.info.meta.size).decode("utf-8", "replace")
        for stanza in text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line[:40])
            if "installed" in fields.get("Status", ""):
                print(fields["Package"], fields["Version"])


main(sys.argv[1])
