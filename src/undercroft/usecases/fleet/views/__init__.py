"""What people and programs see of the fleet."""
