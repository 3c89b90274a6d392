"""Folders of weights: what is in them, how they are fetched, converted and read."""
