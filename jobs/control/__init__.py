"""Orders to workers, signed."""
