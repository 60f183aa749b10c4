"""Reading machines, images and snapshots, and putting what was found on record."""
