"""The history of every machine, as it comes on record."""
