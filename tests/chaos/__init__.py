"""Faults thrown at a whole farm, and an account of every job afterwards."""
