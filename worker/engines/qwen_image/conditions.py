"""What steers a render: features of prompts and what pictures add to them, computed once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
from PIL import Image

from pixelkiln.worker.engines.mlx.features import Recent
from pixelkiln.worker.engines.qwen_image.autoencoder import Autoencoder
from pixelkiln.worker.engines.qwen_image.encoder import TextEncoder
from pixelkiln.worker.engines.qwen_image.packing import Grid, grid, pack
from pixelkiln.worker.engines.qwen_image.references import References
from pixelkiln.worker.engines.qwen_image.tokens import Encoded, Prompts

FEATURE_BYTES = 64 * 2**20  # of prompts' features: some 9,000 tokens in bfloat16
PICTURE_BYTES = 32 * 2**20  # of pictures: some 12 at the released areas
# Each Recent may hold its bound, and one value more that is in use.


@dataclass(frozen=True, slots=True)
class Seen:
    """What the models see of a job's pictures."""

    key: bytes
    tokens: tuple[Grid, ...]  # rows and columns of each in the prompt
    embeds: mx.array  # (tokens, hidden)
    latents: tuple[tuple[mx.array, Grid], ...]  # packed, (tokens, 64), with rows and columns


class Conditioner:
    """Encodes prompts and pictures, those it had lately from memory."""

    def __init__(
        self,
        prompts: Prompts,
        references: References | None,
        encoder: TextEncoder,
        autoencoder: Autoencoder,
        feature_bytes: int = FEATURE_BYTES,
        picture_bytes: int = PICTURE_BYTES,
    ) -> None:
        self.prompts, self.references, self.encoder = prompts, references, encoder
        self._autoencoder = autoencoder
        self._features: Recent[list[mx.array]] = Recent(feature_bytes)
        self._pictures: Recent[tuple[mx.array, list[mx.array]]] = Recent(picture_bytes)

    @property
    def runs(self) -> int:
        """How often the language model ran since loading."""
        return self._features.runs

    @property
    def held(self) -> int:
        """Bytes of what is kept, the text encoder's weights included."""
        return self._features.held + self._pictures.held + self.encoder.held

    def clear(self) -> None:
        """Forget all."""
        self._features.clear()
        self._pictures.clear()

    def see(self, pictures: Sequence[Image.Image]) -> Seen:
        """What RGB pictures give, evaluated."""
        references = self.references
        assert references is not None  # of a model that edits
        key = _digest(pictures)
        tokens = tuple(references.tokens(one.size) for one in pictures)
        grids = [grid(*references.encoded(one.size)) for one in pictures]

        def run() -> tuple[mx.array, list[mx.array]]:
            latents = [pack(self._autoencoder.encode(references.pixels(one))) for one in pictures]
            mx.eval(latents)
            return self.encoder.look(references.patches(pictures), tokens), latents

        embeds, latents = self._pictures.get(key, run)
        return Seen(key, tokens, embeds, tuple(zip(latents, grids, strict=True)))

    def features(self, prompts: Sequence[Encoded], seen: Seen | None) -> list[mx.array]:
        """Features of each prompt, (tokens, hidden), evaluated; they run together."""
        key = (tuple(one.ids for one in prompts), seen.key if seen else b"")
        embeds = seen.embeds if seen else None
        return self._features.get(key, lambda: self.encoder(prompts, self.prompts.pad, embeds))


def _digest(pictures: Sequence[Image.Image]) -> bytes:
    total = hashlib.sha256()
    for picture in pictures:
        total.update(f"{picture.width}×{picture.height};".encode())
        total.update(picture.tobytes())
    return total.digest()
