"""What an administrator orders by command, and what is looked at first."""
