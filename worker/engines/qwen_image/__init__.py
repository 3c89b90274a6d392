"""The Qwen-Image engine: a two-stream transformer over VAE latents, conditioned by Qwen2.5-VL, on MLX."""
