"""The audit log outside the record."""
