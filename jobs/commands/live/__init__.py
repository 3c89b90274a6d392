"""`kiln watch` of the whole farm: frames of a terminal, and lines elsewhere."""
