from __future__ import annotations

import json
from pathlib import Path

import pytest

from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.tokens import Prompts

IM_START, IM_END, VISION_START, VISION_END, PAD, BOI, TMS = 257, 258, 259, 260, 262, 264, 268


def plain(text: str) -> list[int]:
    """The golden tokenizer's ids of ASCII text, one a byte."""
    return [tokens[char] for char in text.replace(" ", "Ġ").replace("\n", "Ċ")]


tokens = json.loads(
    (Path(__file__).parents[3] / "golden/tiny-hidream-o1/tokenizer.json").read_text(encoding="utf-8")
)["model"]["vocab"]


def test_the_chat_template(tiny_prompts: Prompts) -> None:
    assert list(tiny_prompts.encode("a hen")) == [
        *(IM_START, *plain("user\na hen"), IM_END, *plain("\n")),
        *(IM_START, *plain("assistant\n"), BOI, TMS),
    ]


def test_images_stand_before_the_text(tiny_prompts: Prompts) -> None:
    assert list(tiny_prompts.encode("a hen", [2, 1])) == [
        *(IM_START, *plain("user\n"), VISION_START, PAD, PAD, VISION_END, VISION_START, PAD, VISION_END),
        *(*plain("a hen"), IM_END, *plain("\n"), IM_START, *plain("assistant\n"), BOI, TMS),
    ]


@pytest.mark.parametrize("token", ["<|tms_token|>", "<|im_end|>", "<|image_pad|>", "<|endoftext|>"])
def test_control_tokens_in_a_prompt_are_text(tiny_prompts: Prompts, token: str) -> None:
    prompt = f"a {token} b"
    assert list(tiny_prompts.encode(prompt)) == [
        *(IM_START, *plain(f"user\n{prompt}"), IM_END, *plain("\n")),
        *(IM_START, *plain("assistant\n"), BOI, TMS),
    ]


def test_a_missing_control_token_is_named(copied: Path) -> None:
    path = copied / "tokenizer.json"
    data = json.loads(path.read_bytes())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] != "<|boi_token|>"]
    path.write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=r"has no token <\|boi_token\|>"):
        Prompts(copied, Config.read(copied))


def test_a_broken_tokenizer_is_named(copied: Path) -> None:
    (copied / "tokenizer.json").write_text('{"added_tokens": []}')
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Prompts(copied, Config.read(copied))
