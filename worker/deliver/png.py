"""The picture as a file: PNG with what made it, and nothing that varies between two renders of one spec."""

from __future__ import annotations

import io
import json
from xml.sax.saxutils import quoteattr

from PIL import Image
from PIL.Image import DecompressionBombError as Bomb
from PIL.PngImagePlugin import PngInfo

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.engine import Facts, Pixels

COMPRESSION = 4  # zlib level; 6 takes twice as long here for 2% fewer bytes

# IPTC's digital source type for pictures made by a trained model
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmp:CreatorTool={tool}
    Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def encode(pixels: Pixels, spec: RenderSpec, facts: Facts, version: str) -> bytes:
    """PNG bytes of `pixels`, (height, width, 3).

    Three text blocks: `parameters`, which picture tools read; `pixelkiln`, the spec and what ran it, as JSON;
    and XMP with the digital source type.
    """
    tool = f"pixelkiln {version}"
    image = Image.fromarray(pixels)
    info = PngInfo()
    info.add_itxt("parameters", _parameters(spec, image.size, facts, tool))
    about = {"spec": spec.wire(), "engine": facts.record(), "version": version}
    info.add_itxt("pixelkiln", json.dumps(about, ensure_ascii=False, sort_keys=True))
    info.add_itxt("XML:com.adobe.xmp", _XMP.format(tool=quoteattr(tool)))
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=info, compress_level=COMPRESSION)
    return out.getvalue()


def spec_in(png: bytes) -> RenderSpec | None:
    """The spec that `encode` wrote into a picture; None where there is none."""
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            return RenderSpec.parse(json.loads(image.info["pixelkiln"])["spec"])
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, RecursionError, SpecError, Bomb):
        return None


def _parameters(spec: RenderSpec, size: tuple[int, int], facts: Facts, tool: str) -> str:
    """The prompt, the negative one, a line of settings, as AUTOMATIC1111's web UI writes and others read."""
    guided = {"CFG scale": f"{facts.guidance:g}"} if facts.guidance > 1 else {}
    settings = {
        "Steps": facts.steps,
        **({"Coarse steps": spec.coarse_steps} if spec.coarse_steps else {}),
        "Sampler": facts.scheduler,
        **guided,
        "Seed": spec.seed,
        "Size": f"{size[0]}x{size[1]}",
        **({} if spec.strength is None else {"Denoising strength": f"{spec.strength:g}"}),
        "Model": f"{spec.model} {spec.quantization}",
        "Version": tool,
    }
    without = "" if spec.negative_prompt is None else f"Negative prompt: {spec.negative_prompt}\n"
    told = ", ".join(f"{name}: {_quoted(value)}" for name, value in settings.items())
    return f"{spec.prompt}\n{without}{told}"


def _quoted(value: object) -> str:
    """A value as JSON where it holds what separates settings."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(",:\n") else text
