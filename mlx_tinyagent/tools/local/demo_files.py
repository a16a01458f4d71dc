"""Small real files from text: PDF, Word, Excel, PNG; the same bytes on every machine.

Knows no world and no store. Nothing is compressed, so that the bytes do not
depend on a library's version.
"""

from __future__ import annotations

import csv
import io
import struct
import textwrap
import zipfile
import zlib
from collections.abc import Sequence
from xml.sax.saxutils import escape

LINE_CHARACTERS = 88
PAGE_LINES = 46
Cell = str | int | float


def pdf_pages(paragraphs: Sequence[str]) -> list[list[str]]:
    """Break paragraphs into the lines of each page; an empty line parts paragraphs."""
    lines: list[str] = []
    for paragraph in paragraphs:
        lines += [*textwrap.wrap(paragraph, LINE_CHARACTERS), ""]
    lines = lines[:-1]
    return [lines[at : at + PAGE_LINES] for at in range(0, len(lines), PAGE_LINES)] or [[]]


def pdf(paragraphs: Sequence[str]) -> bytes:
    """Write a PDF in Helvetica.

    Args:
        paragraphs: Text that Windows-1252 can hold.

    Raises:
        UnicodeEncodeError: It cannot.

    Source:
        ISO 32000-1:2008, sections 7.5 (file structure) and 9.4 (text objects).
    """
    pages = pdf_pages(paragraphs)
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, lines in enumerate(pages):
        stream = _text_object(lines)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * number)
        )
        objects.append(b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream))
    return _pdf_file(objects)


def _text_object(lines: Sequence[str]) -> bytes:
    """Write lines one below the other, from the top left of a page."""
    shown = [
        b"(%b) Tj"
        % line.encode("cp1252").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
        for line in lines
    ]
    return b"BT /F1 11 Tf 15 TL 60 780 Td\n" + b" T*\n".join(shown) + b"\nET"


def _pdf_file(objects: Sequence[bytes]) -> bytes:
    """Number the objects and add the table of their offsets."""
    content = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, item in enumerate(objects, 1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%b\nendobj\n" % (number, item)
    start = len(content)
    content += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    content += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    content += b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    content += b"startxref\n%d\n%%%%EOF\n" % start
    return bytes(content)


def docx(paragraphs: Sequence[str]) -> bytes:
    """Write a Word document (ECMA-376, the smallest package that opens)."""
    office = "application/vnd.openxmlformats-officedocument.wordprocessingml"
    body = "".join(
        f'<w:p><w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r></w:p>'
        for text in paragraphs
    )
    main = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    return _package(
        {"word/document.xml": f'<w:document xmlns:w="{main}"><w:body>{body}</w:body></w:document>'},
        types={"/word/document.xml": f"{office}.document.main+xml"},
        relations={"_rels/.rels": [("officeDocument", "word/document.xml")]},
    )


def xlsx(rows: Sequence[Sequence[Cell]]) -> bytes:
    """Write an Excel workbook with one sheet (ECMA-376, the smallest package that opens)."""
    office = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    link = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    data = "".join(f"<row>{''.join(map(_cell, row))}</row>" for row in rows)
    return _package(
        {
            "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{link}"><sheets>'
            '<sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>',
            "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}">'
            f"<sheetData>{data}</sheetData></worksheet>",
        },
        types={
            "/xl/workbook.xml": f"{office}.sheet.main+xml",
            "/xl/worksheets/sheet1.xml": f"{office}.worksheet+xml",
        },
        relations={
            "_rels/.rels": [("officeDocument", "xl/workbook.xml")],
            "xl/_rels/workbook.xml.rels": [("worksheet", "worksheets/sheet1.xml")],
        },
    )


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return f'<c t="inlineStr"><is><t>{escape(value)}</t></is></c>'
    return f"<c><v>{value}</v></c>"


def _package(
    parts: dict[str, str], *, types: dict[str, str], relations: dict[str, list[tuple[str, str]]]
) -> bytes:
    """Put parts, their types and their relations into an Open Packaging file."""
    base = "http://schemas.openxmlformats.org"
    overrides = "".join(
        f'<Override PartName="{name}" ContentType="{kind}"/>' for name, kind in types.items()
    )
    everything = {
        "[Content_Types].xml": f'<Types xmlns="{base}/package/2006/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{overrides}</Types>',
        **parts,
    }
    for name, links in relations.items():
        items = "".join(
            f'<Relationship Id="rId{number}" '
            f'Type="{base}/officeDocument/2006/relationships/{kind}" Target="{target}"/>'
            for number, (kind, target) in enumerate(links, 1)
        )
        everything[name] = (
            f'<Relationships xmlns="{base}/package/2006/relationships">{items}</Relationships>'
        )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as package:
        for name, text in everything.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
            package.writestr(entry, (head + text).encode())
    return content.getvalue()


def csv_text(rows: Sequence[Sequence[Cell]]) -> str:
    """Write comma-separated values with plain line ends."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def floor_plan_png(width: int = 96, height: int = 64) -> bytes:
    """Draw a small gray floor plan: outer walls, one inner wall, a door.

    Source:
        PNG Specification (Second Edition), W3C, sections 5 and 10; deflate in
        stored blocks, RFC 1951.
    """
    scanlines = b"".join(
        b"\0" + bytes(_wall(x, y, width, height) for x in range(width)) for y in range(height)
    )
    length = len(scanlines)
    stored = b"\x01" + struct.pack("<HH", length, length ^ 0xFFFF) + scanlines
    data = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(scanlines))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _wall(x: int, y: int, width: int, height: int) -> int:
    """Return the gray of a pixel: 40 for walls, 255 for rooms."""
    outer = x < 3 or y < 3 or x >= width - 3 or y >= height - 3
    inner = abs(x - width // 2) < 2 and not height // 3 < y < height // 2
    return 40 if outer or inner else 255
