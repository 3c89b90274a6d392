"""What one Redis carries: `kiln status`, `kiln cancel`, and a farm of many workers, simulated."""
