"""What was asked for as a command, to be typed or pasted."""

from __future__ import annotations

import shlex

from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.spec import RenderSpec

_OPTIONS = ("seed", "steps", "coarse_steps", "guidance", "negative_prompt", "strength", "blend_seams")


def command(spec: RenderSpec) -> str:
    """The `kiln submit` that asks for the same picture again, for shells as Macs and Linux have them.

    References are named by the start of their sha256, where their files are to be put.
    """
    words = ["kiln", "submit", "--model", spec.model, "--quantization", spec.quantization]
    words += ["--size", f"{spec.width}x{spec.height}"]
    for name in _OPTIONS:
        value = getattr(spec, name)
        if value not in (None, "") and not (name in ("coarse_steps", "blend_seams") and value == 0):
            words += [f"--{name.replace('_', '-')}={value}"]
    for reference in spec.references:
        words += ["--ref", f"{reference[:12]}.png"]
    words += ["--keep-aspect"] if spec.keep_aspect else []
    for box in spec.layout:
        words += ["--box", f"{box.x1},{box.x2},{box.y1},{box.y2}"]
    words += ["--priority", spec.priority] if spec.priority != "normal" else []
    for name, text in spec.labels.items():
        words += ["--label", f"{name}={text}"]
    quoted = " ".join(_quoted(word) for word in words)
    return f"{quoted} -- {_quoted(spec.prompt)}"


def _quoted(word: str) -> str:
    """A word as a shell reads it; what a terminal would act on is written as an escape."""
    told = [one if one == "\n" or plain(one) == one else f"\\U{ord(one):08x}" for one in word]
    if all(len(one) == 1 for one in told):
        return shlex.quote(word)
    escaped = "".join(f"\\{one}" if one in ("\\", "'") else one for one in told)
    return f"$'{escaped}'"
