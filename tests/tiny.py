"""The demo model's stand-in, for tests that want jobs done and do not look at pictures."""

from pathlib import Path

TINY_MODELS = Path(__file__).parent / "models"  # a KILN_MODELS_DIR; its demo has random weights
TINY = TINY_MODELS / "demo"
