"""What may pass at a machine's port: policy, meaning, and the rules of the kernel as values. No I/O."""
