"""Batches: many jobs under one name. On the client side of things, as all of `jobs/`."""
