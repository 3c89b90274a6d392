"""The Z-Image engine: one stream of image and text tokens over latents, on MLX."""
