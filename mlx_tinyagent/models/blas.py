"""Point MLX's matrix products at a fast BLAS (Linux x86-64 only).

MLX's CPU wheel for Linux links the single-threaded reference BLAS, about fifty
times slower than OpenBLAS. The calls go through slots in ``libmlx.so`` that
the dynamic linker fills; this module fills them again with OpenBLAS's
functions, found in the wheels ``cmeel-openblas`` (plain names) or
``scipy-openblas32`` (names with the prefix ``scipy_``; needs no Fortran
runtime). Both have 32-bit integers, the ABI MLX was compiled for.

Source: System V ABI, AMD64 supplement, section 4.4 (relocation types); ELF-64
object file format 1.5 (headers, dynamic section).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_POINTER_RELOCATIONS = {1, 6, 7}  # R_X86_64_64, _GLOB_DAT, _JUMP_SLOT
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_PLTRELSZ, _DT_STRTAB, _DT_SYMTAB, _DT_RELA, _DT_RELASZ, _DT_JMPREL = 2, 5, 6, 7, 8, 23
_RELA = struct.Struct("<QQq")  # offset, symbol << 32 | type, addend
_SYMBOL = struct.Struct("<IBBHQQ")  # name, info, other, section, value, size


class BlasError(Exception):
    """A library cannot be bound; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A pointer of a shared library that the dynamic linker fills.

    Args:
        symbol: Name of the undefined symbol.
        address: Virtual address relative to the library's load address.
    """

    symbol: str
    address: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """An OpenBLAS on this machine.

    Args:
        name: For people, such as ``scipy-openblas32``.
        path: The shared library.
        prefix: What precedes every exported name.
    """

    name: str
    path: Path
    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Slots that were filled again, with what they held before.

    Args:
        wheel: Whose functions the slots hold now.
        handle: The loaded library.
        old: (absolute address, former pointer) of every slot.
    """

    wheel: Library
    handle: ctypes.CDLL
    old: tuple[tuple[int, int], ...]

    def undo(self) -> None:
        """Give every slot its former pointer."""
        _write_pointers(self.old)

    @property
    def threads(self) -> int:
        """Threads the library uses for one product."""
        return int(self._function("openblas_get_num_threads")())

    def set_threads(self, count: int) -> None:
        """Set the threads of one product, at least 1."""
        self._function("openblas_set_num_threads")(count)

    def _function(self, name: str) -> Any:
        exported = f"{self.wheel.prefix}{name}"
        return getattr(self.handle, exported)


def installed() -> Iterator[Library]:
    """Yield the OpenBLAS wheels installed beside us, fastest first."""
    wheels = (("cmeel-openblas", "", "libopenblas.so"), ("scipy-openblas32", "scipy_", ".so"))
    for name, prefix, ending in wheels:
        if path := _library_file(name, ending):
            yield Library(name=name, path=path, prefix=prefix)


def bind(target: Path, library: Library) -> Binding:
    """Fill the BLAS and LAPACK slots of a loaded library with another's functions.

    Every undefined symbol of ``target`` that ``library`` exports under its
    prefix is bound, which is exactly the BLAS and LAPACK names in use.

    Args:
        target: Shared library that is loaded in this process (``libmlx.so``).
        library: The OpenBLAS to use; loaded here.

    Returns:
        The binding, which can be undone.

    Raises:
        BlasError: The library does not load, or ``target`` is not a loaded
            x86-64 ELF file with such slots.
    """
    try:
        handle = ctypes.CDLL(str(library.path), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError as error:  # cmeel-openblas without the system's libgfortran
        raise BlasError(f"{library.name} does not load ({error})") from error
    base = _load_address(target)
    new = []
    for slot in slots(target.read_bytes()):
        function = _address(handle, library.prefix + slot.symbol)
        if function is not None:
            new.append((base + slot.address, function))
    if not new:
        raise BlasError(f"{target.name} has no slot that {library.name} could fill")
    old = tuple((where, ctypes.c_uint64.from_address(where).value) for where, _ in new)
    _write_pointers(tuple(new))
    return Binding(wheel=library, handle=handle, old=old)


def slots(image: bytes) -> list[Slot]:
    """Read the function slots of a shared library's undefined symbols.

    Args:
        image: Bytes of a 64-bit little-endian x86-64 ELF file.

    Returns:
        Slots of both relocation tables (DT_RELA and DT_JMPREL), in file order.

    Raises:
        BlasError: Not such a file, or its tables point outside it.
    """
    try:
        return list(_slots(image))
    except (struct.error, IndexError, KeyError, ValueError) as error:
        raise BlasError(f"the ELF tables cannot be read ({error!r})") from error


def _slots(image: bytes) -> Iterator[Slot]:
    if image[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", image, 18)[0] != 62:
        raise BlasError("not a 64-bit x86 ELF file")
    segments = _segments(image)
    dynamic = _dynamic(image, segments)
    symbols = _file_offset(segments, dynamic[_DT_SYMTAB])
    names = _file_offset(segments, dynamic[_DT_STRTAB])
    for start, size in ((_DT_RELA, _DT_RELASZ), (_DT_JMPREL, _DT_PLTRELSZ)):
        if start not in dynamic:
            continue
        table = _file_offset(segments, dynamic[start])
        for offset, info, addend in _RELA.iter_unpack(image[table : table + dynamic[size]]):
            if info & 0xFFFFFFFF not in _POINTER_RELOCATIONS or addend:
                continue
            name, _, _, section, _, _ = _SYMBOL.unpack_from(image, symbols + (info >> 32) * 24)
            if section == 0:  # undefined here: another library provides it
                end = image.index(b"\0", names + name)
                yield Slot(symbol=image[names + name : end].decode("ascii"), address=offset)


def _segments(image: bytes) -> list[tuple[int, int, int, int]]:
    """Return (type, file offset, virtual address, file size) of every program header."""
    (table,) = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    segments = []
    for index in range(count):
        kind, _, offset, address, _, length = struct.unpack_from(
            "<IIQQQQ", image, table + index * size
        )
        segments.append((kind, offset, address, length))
    return segments


def _dynamic(image: bytes, segments: list[tuple[int, int, int, int]]) -> dict[int, int]:
    """Return the dynamic section as tag -> value."""
    start, length = next((o, n) for kind, o, _, n in segments if kind == _PT_DYNAMIC)
    entries: dict[int, int] = {}
    for tag, value in struct.iter_unpack("<QQ", image[start : start + length]):
        if tag == 0:
            break
        entries[tag] = value
    return entries


def _file_offset(segments: list[tuple[int, int, int, int]], address: int) -> int:
    for kind, offset, start, length in segments:
        if kind == _PT_LOAD and start <= address < start + length:
            return offset + address - start
    raise ValueError(f"address {address:#x} lies in no segment")


def _load_address(target: Path) -> int:
    """Return where a library was mapped: what its virtual addresses are relative to."""
    real = os.path.realpath(target)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *name = line.split(maxsplit=5)
        if name and int(offset, 16) == 0 and os.path.realpath(name[0]) == real:
            # a shared library's first segment starts at virtual address 0
            return int(span.split("-")[0], 16)
    raise BlasError(f"{target.name} is not loaded")


def _address(handle: ctypes.CDLL, name: str) -> int | None:
    try:
        function = getattr(handle, name)
    except AttributeError:
        return None
    return ctypes.cast(function, ctypes.c_void_p).value


def _write_pointers(values: tuple[tuple[int, int], ...]) -> None:
    """Write pointers into slots whose pages may be read-only after relocation (RELRO)."""
    protections = _protections()
    for where, value in values:
        if where % 8:
            raise BlasError(f"slot at {where:#x} is not aligned")
        page = where - where % mmap.PAGESIZE
        protection = next((p for low, high, p in protections if low <= page < high), None)
        if protection is None:
            raise BlasError(f"slot at {where:#x} is not mapped")
        _protect(page, protection | mmap.PROT_WRITE)
        ctypes.c_uint64.from_address(where).value = value  # one aligned store
        _protect(page, protection)


def _protections() -> list[tuple[int, int, int]]:
    """Return (start, end, protection flags) of every mapping of this process."""
    flags = (("r", mmap.PROT_READ), ("w", mmap.PROT_WRITE), ("x", mmap.PROT_EXEC))
    mappings = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, mode = line.split()[:2]
        low, high = (int(end, 16) for end in span.split("-"))
        mappings.append((low, high, sum(bit for letter, bit in flags if letter in mode)))
    return mappings


def _protect(page: int, protection: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), protection)
    if done != 0:
        raise BlasError(f"mprotect of {page:#x} failed: {os.strerror(ctypes.get_errno())}")


def _library_file(distribution: str, ending: str) -> Path | None:
    """Find a shared library in an installed distribution without importing it."""
    from importlib import metadata

    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        path = Path(str(file.locate()))
        if path.name.endswith(ending) and path.exists():
            return path
    return None
