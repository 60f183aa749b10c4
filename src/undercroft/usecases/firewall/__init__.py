"""Use cases of the firewall: machines as it sees them, plan, apply, prove, show, trace and map."""
