"""What a start meets: before it, after it, and what becomes of its network."""
