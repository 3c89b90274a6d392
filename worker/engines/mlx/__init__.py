"""What engine families share of MLX: layers, pacing, limits, noise, measuring."""
