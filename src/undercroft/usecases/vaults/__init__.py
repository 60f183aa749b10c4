"""What an administrator sees of this host's vaults, and the one thing that may be done about them: adopt."""
