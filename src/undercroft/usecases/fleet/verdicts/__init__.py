"""Judging what is on record: facts, advisories, floors, and the policy's files."""
