"""Files that are no pictures of ours, by their first bytes: what each is, and the way out."""

from __future__ import annotations

import re

READ = "PNG, JPEG, WebP, TIFF, GIF and BMP are read"
_SIPS = "on a Mac `sips -s format png FILE --out FILE.png` makes one of them"
_EXPORT = "export it as PNG"
_FETCH = "see how it was fetched"

_BRANDS = (  # of the ISO container that phones and films share, the most exact first
    ((b"avif", b"avis"), ("AVIF", _SIPS)),
    ((b"crx ",), ("a camera's raw file (CR3)", _SIPS)),
    ((b"jxl ",), ("JPEG XL", _SIPS)),
    ((b"jp2 ",), ("JPEG 2000", _SIPS)),
    ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), ("HEIC", _SIPS)),
)
_FILM = ("a film, perhaps a live photo's moving half", "take its still picture")
_RAW = "a camera's raw file"
_MAGIC: tuple[tuple[bytes, tuple[str, str]], ...] = (
    (b"\xff\x0a", ("JPEG XL", _SIPS)),
    (b"\0\0\0\x0cJXL ", ("JPEG XL", _SIPS)),
    (b"\0\0\0\x0cjP  ", ("JPEG 2000", _SIPS)),
    (b"\xff\x4f\xff\x51", ("JPEG 2000", _SIPS)),
    (b"II\xbc", ("JPEG XR", _SIPS)),
    (b"FUJIFILMCCD-RAW", (f"{_RAW} (RAF)", _SIPS)),
    (b"IIRO", (f"{_RAW} (ORF)", _SIPS)),
    (b"IIRS", (f"{_RAW} (ORF)", _SIPS)),
    (b"MMOR", (f"{_RAW} (ORF)", _SIPS)),
    (b"IIU\0", (f"{_RAW} (RW2)", _SIPS)),
    (b"FOVb", (f"{_RAW} (X3F)", _SIPS)),
    (b"\0MRM", (f"{_RAW} (MRW)", _SIPS)),
    (b"II\x1a\0\0\0HEAPCCDR", (f"{_RAW} (CRW)", _SIPS)),
    (b"II+\0", ("BigTIFF", _SIPS)),
    (b"MM\0+", ("BigTIFF", _SIPS)),
    (b"8BPS", ("a Photoshop document", _SIPS)),
    (b"%PDF", ("PDF", _SIPS)),
    (b"%!PS", ("PostScript", _EXPORT)),
    (b"\xc5\xd0\xd3\xc6", ("PostScript", _EXPORT)),
    (b"gimp xcf", ("a GIMP document", _EXPORT)),
    (b"\0\0\1\0", ("an icon (ICO)", _SIPS)),
    (b"icns", ("an icon (ICNS)", _SIPS)),
    (b"v/1\1", ("OpenEXR", _SIPS)),
    (b"#?R", ("Radiance HDR", _SIPS)),
    (b"DDS ", ("a DDS texture", _SIPS)),
    (b"qoif", ("QOI", _EXPORT)),
    (b"\x8aMNG", ("MNG", _EXPORT)),
    (b"\x8bJNG", ("JNG", _EXPORT)),
    (b"AT&TFORM", ("DjVu", _EXPORT)),
    (b"BPG\xfb", ("BPG", _EXPORT)),
    (b"\x01\xda", ("an SGI picture", _EXPORT)),
    (b"\x59\xa6\x6a\x95", ("a Sun raster picture", _EXPORT)),
    (b"\xd7\xcd\xc6\x9a", ("WMF", _EXPORT)),
    (b"SIMPLE  =", ("FITS", _EXPORT)),
    (b"\0\5\x16\7", ("what macOS keeps beside a file (._NAME)", "give NAME itself")),
    (b"PK\3\4", ("an archive or a document (ZIP)", "unpack it, or export a PNG")),
    (b"\x1f\x8b", ("packed (gzip)", "unpack it")),
    (b"version https://git-lfs", ("a pointer of Git LFS", "`git lfs pull` brings the file")),
    (b"\x1aE\xdf\xa3", _FILM),
    (b"bplist", ("a property list", "give the picture beside it")),
)
_XML = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(\?xml|!doctype|!--|svg|html|head|plist)", re.IGNORECASE)


def named(data: bytes) -> str:
    """What a file is that is none of ours, and the way out, as the rest of a sentence about it."""
    if not data:
        return f"is empty; {_FETCH}"
    if data.count(0) == len(data):
        return f"holds nothing but zeros; {_FETCH}"
    found = _known(data)
    if found is None:
        return f"is not a picture; {READ}"
    name, way = found
    return f"is {name}; {READ}: {way}"


def raw(kind: str = "") -> str:
    """The same of a raw file that a TIFF's directory told."""
    return f"is {_RAW}{kind}; {READ}: {_SIPS}"


def _known(data: bytes) -> tuple[str, str] | None:
    if data[4:8] == b"ftyp":
        size = max(16, min(int.from_bytes(data[:4], "big"), 256))
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, size, 4))}
        return next((told for known, told in _BRANDS if brands.intersection(known)), _FILM)
    if data[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip") or data[8:12] == b"AVI ":
        return _FILM
    if data[128:132] == b"DICM":
        return "DICOM", _EXPORT
    if re.match(rb"P[1-7FfGg]\s", data):
        return "PNM", _SIPS
    if markup := _XML.match(data[:1024]):
        if b"<svg" in data[:4096].lower():
            return "SVG", _EXPORT
        page = markup[1].lower() in (b"!doctype", b"html", b"head") and b"plist" not in data[:512]
        return ("a web page", _FETCH) if page else ("XML", _FETCH)
    return next((told for magic, told in _MAGIC if data.startswith(magic)), None)
