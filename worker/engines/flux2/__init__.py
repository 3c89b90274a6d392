"""The FLUX.2-klein engine: a transformer over latents, a Qwen3 text encoder and a VAE, on MLX."""
