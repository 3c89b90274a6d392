"""What became of a batch, as a page, as text and as data."""
