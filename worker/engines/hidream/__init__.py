"""The HiDream-O1 engine: a Qwen3-VL decoder over raw pixel patches, on MLX."""
