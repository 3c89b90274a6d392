"""Picture postcards: a small procedural world to train the demo model on and to measure pictures with."""
