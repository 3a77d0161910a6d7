"""An encoded picture → the same pixels with what made them: A1111's parameters, and XMP that says that a model did.

PNG has the parameters in a text chunk, JPEG and WebP in EXIF's UserComment; all have an XMP packet with IPTC's digital
source type. Pixels are never decoded. Of what a picture of elsewhere brings along, only what says how its pixels look
stays (colour profiles), as nobody knows what else is in it. Knows the containers byte by byte, and no files.

Sources: PNG (W3C, third edition), Exif 2.32, RFC 9649 (WebP), XMP part 3 (Adobe).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from batchgen.export.parameters import parameters

DIGITAL_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
   Iptc4xmpExt:DigitalSourceType="{DIGITAL_SOURCE}"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>""".encode()

COLOUR_CHUNKS = {b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"bKGD", b"pHYs"}
ICC = b"ICC_PROFILE\0"
SEGMENT_BYTES = 65_533  # what a segment of JPEG holds
WEBP_CHUNKS = {b"VP8X", b"ICCP", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L"}
HAS_EXIF, HAS_XMP, HAS_ALPHA = 0x08, 0x04, 0x10


def embedded(data: bytes, image_format: str, values: Mapping[str, Any]) -> bytes:
    """The picture with the parameters and the XMP packet; the same whenever it is made.

    image_format: one of run.images.FORMATS. values: its row of the metadata. Where fits() is false it gets the XMP
    packet alone: a part of a prompt would be another prompt. Raises ValueError where data is no such picture.
    """
    text = parameters(values)
    try:
        if image_format == "png":
            return _png(data, text)
        tiff = _tiff(text)
        return _jpeg(data, tiff) if image_format == "jpeg" else _webp(data, tiff)
    except (struct.error, IndexError) as error:
        raise ValueError(f"not a whole {image_format}: {error}") from error


def fits(image_format: str, values: Mapping[str, Any]) -> bool:
    """Whether the picture can hold the parameters: a JPEG has room for 32,000 letters."""
    return image_format != "jpeg" or len(_exif(_tiff(parameters(values)))) <= SEGMENT_BYTES


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(kind + data))))


PNG_XMP = _png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)


def _png(data: bytes, text: str) -> bytes:
    """Behind IHDR, so that a reader has it before the pixels."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        raise ValueError("not a PNG")
    try:
        chunk = _png_chunk(b"tEXt", b"parameters\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        chunk = _png_chunk(b"iTXt", b"parameters\0\0\0\0\0" + text.encode())
    return b"".join((data[:33], chunk, PNG_XMP, *_kept_of_png(data)))


def _kept_of_png(data: bytes) -> Iterator[bytes]:
    """Behind IHDR: chunks without which there are no pixels (capital letter), and those of colour, in long pieces."""
    start = at = 33
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind[0] & 0x20 and kind not in COLOUR_CHUNKS:
            yield data[start:at]
            start = at + length + 12
        at += length + 12
        if kind == b"IEND":
            break
    if at > len(data):
        raise ValueError("not a whole PNG")
    yield data[start:at]


def _tiff(text: str) -> bytes:
    """EXIF with one entry, UserComment, as piexif writes it: big-endian, the text in UTF-16."""
    comment = b"UNICODE\0" + text.encode("utf-16-be")
    exif_ifd = struct.pack(">HHHIII", 1, 0x9286, 7, len(comment), 44, 0)
    return b"".join((b"MM\0*\0\0\0\x08", struct.pack(">HHHIII", 1, 0x8769, 4, 1, 26, 0), exif_ifd, comment))


def _exif(tiff: bytes) -> bytes:
    return b"Exif\0\0" + tiff


def _segment(payload: bytes) -> bytes:
    return b"".join((b"\xff\xe1", struct.pack(">H", len(payload) + 2), payload))


JPEG_XMP = _segment(b"http://ns.adobe.com/xap/1.0/\0" + XMP)


def _jpeg(data: bytes, tiff: bytes) -> bytes:
    """Behind the segments of JFIF, which must be the first."""
    if data[:2] != b"\xff\xd8":
        raise ValueError("not a JPEG")
    first, kept, at = [b"\xff\xd8"], list[bytes](), 2
    while data[at + 1] != 0xDA:  # pixels begin
        if data[at] != 0xFF:
            raise ValueError("not a whole JPEG")
        if data[at + 1] == 0xFF:  # any number of these may stand before a marker
            at += 1
            continue
        marker, length = struct.unpack_from(">xBH", data, at)
        segment = data[at : at + 2 + length]
        if marker == 0xE0 and not kept:
            first.append(segment)
        elif _is_of_pixels(marker, segment[4:]):
            kept.append(segment)
        at += 2 + length
    exif = _exif(tiff)
    told = _segment(exif) if len(exif) <= SEGMENT_BYTES else b""
    return b"".join((*first, told, JPEG_XMP, *kept, data[at:]))


def _is_of_pixels(marker: int, payload: bytes) -> bool:
    """No comment, and of what applications add only a colour profile and Adobe's word on which colours these are."""
    if 0xE0 <= marker <= 0xEF:
        return marker == 0xEE or (marker == 0xE2 and payload.startswith(ICC))
    return marker != 0xFE


def _webp_chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join((kind, struct.pack("<I", len(data)), data, b"\0" * (len(data) % 2)))


WEBP_XMP = _webp_chunk(b"XMP ", XMP)


def _webp(data: bytes, tiff: bytes) -> bytes:
    """Behind the pixels, as the container wants it; a simple file becomes an extended one."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError("not a WebP")
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise ValueError("not a whole WebP")
    kept, at = list[bytes](), 12
    while at < end:
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind in WEBP_CHUNKS:
            kept.append(data[at : at + 8 + length + length % 2])
        at += 8 + length + length % 2
    kept[:1] = _extended(kept[0])
    body = b"".join((b"WEBP", *kept, _webp_chunk(b"EXIF", tiff), WEBP_XMP))
    return b"".join((b"RIFF", struct.pack("<I", len(body)), body))


def _extended(first: bytes) -> list[bytes]:
    """The first chunk of a WebP as VP8X that says what comes, and itself, where it is the pixels."""
    kind, payload = first[:4], first[8:]
    if kind == b"VP8X":
        flags = payload[0] | HAS_EXIF | HAS_XMP
        return [_webp_chunk(b"VP8X", bytes([flags]) + payload[1:])]
    flags = HAS_EXIF | HAS_XMP
    if kind == b"VP8L":  # 0x2f, then bits: 14 of width - 1, 14 of height - 1, 1 whether there is alpha
        bits = int.from_bytes(payload[1:5], "little")
        width, height = bits & 0x3FFF, bits >> 14 & 0x3FFF
        flags |= HAS_ALPHA if bits >> 28 & 1 else 0
    else:  # three bytes of the frame, three of a start code, then 14 bits each of width and height
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", payload, 6))
        width, height = width - 1, height - 1
    sizes = width.to_bytes(3, "little") + height.to_bytes(3, "little")
    return [_webp_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + sizes), first]
