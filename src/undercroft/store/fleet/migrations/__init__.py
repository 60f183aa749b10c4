"""The record's schema as Alembic keeps it: `env` runs the revisions in `versions`."""
