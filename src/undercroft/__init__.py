"""Undercroft: the security layer beneath virtual machines."""

__version__ = "0.1.0"
