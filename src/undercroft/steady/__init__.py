"""Verdicts: a policy, and what it says of a machine in one state. Pure: facts, policy and time in; no I/O."""
