"""Batches: many pictures under a name, found again from any machine."""
