"""Counters, one-time values, ledgers, sealed blobs and revocations that no rollback of a guest rewinds."""
