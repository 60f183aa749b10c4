"""The version of the package; hatchling reads it from here."""

VERSION = "0.1.0"
