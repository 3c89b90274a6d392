"""A small byte-level BPE vocabulary made of captions, with the model's control tokens behind it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

MERGED = 640  # tokens before the control tokens: 256 bytes and what merging adds
CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|boi_token|>",
    "<|bor_token|>",
    "<|eor_token|>",
    "<|bot_token|>",
    "<|tms_token|>",
)
ROWS = 672  # of the embedding: what the two take, rounded up

# The release's template, without references and tools.
TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


def train(captions: Iterable[str]) -> Tokenizer:
    """Merge what is frequent in chat turns with these captions. Any text encodes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MERGED,
        min_frequency=1,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator((f"user\n{text}\nassistant\n" for text in captions), trainer)
    return tokenizer


def control_id(token: str) -> int:
    """A control token's id."""
    return MERGED + CONTROL.index(token)


def write(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the tokenizer's files as a release has them."""
    data = json.loads(tokenizer.to_str())
    if len(data["model"]["vocab"]) > MERGED:
        raise ValueError(f"{len(data['model']['vocab'])} tokens where {MERGED} have room")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    data["added_tokens"] = [{"id": control_id(token), "content": token, **flags} for token in CONTROL]
    extra = list(CONTROL[1:])
    special = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "additional_special_tokens": extra}
    settings = {
        **special,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    settings["added_tokens_decoder"] = {
        str(control_id(token)): {"content": token, **flags} for token in CONTROL
    }
    (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
