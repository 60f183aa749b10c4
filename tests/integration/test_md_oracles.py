"""md RAID as a real kernel reads it: every array of a kept set, and of one made anew, byte for byte."""

from pathlib import Path

import pytest
import volumeimages
from volumeimages import VolumeImages, digest, kept

STALE = {"sda51": "md/r1stale", "sda54": "md/r5stale"}


def check_whole(images: VolumeImages) -> None:
    found = images.open()
    devices = [volume for volume in found.volumes if volume.device]
    assert {each.name: digest(each.device.source) for each in devices} == images.digests  # type: ignore[union-attr,arg-type] # all have one
    refused = {
        volume.name: volume.reason for volume in found.volumes if volume.disk == "sda" and volume.applicable
    }
    assert refused.keys() == STALE.keys()
    assert all("this member is stale" in reason for reason in refused.values())
    assert (found.problems, found.notes) == ((), ())


def test_every_array_reads_as_the_kernel_reads_it() -> None:
    images = kept("md")
    assert len(images.digests) == len(volumeimages.MD_MEMBERS)
    check_whole(images)


@pytest.mark.timeout(1500)
@pytest.mark.soak
def test_arrays_that_the_kernel_makes_anew_read_as_it_reads_them(tmp_path: Path) -> None:
    try:
        made = volumeimages.make("md", tmp_path)
    except RuntimeError as error:
        pytest.skip(str(error)[:300])
    check_whole(made)
