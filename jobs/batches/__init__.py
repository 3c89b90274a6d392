"""Batches: files of jobs, what they ask for, what came of them, found again by name."""
