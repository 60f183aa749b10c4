"""The record of the fleet, in SQLite or PostgreSQL through SQLAlchemy: `ports.records` made durable."""
