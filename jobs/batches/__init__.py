"""Batches: files of jobs, what they ask for, and what came of them."""
