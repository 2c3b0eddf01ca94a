"""What stands between a foreign file and this program: names that stay inside, sizes that fit, errors that are ours."""

from __future__ import annotations

import contextlib
import json
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg import extras
from scribbleseg.data.images import IMAGE_SUFFIXES, MAX_PIXELS
from scribbleseg.data.readers.image import without_log
from scribbleseg.errors import DataError, ScribblesegError

#: Larger JSON and XML documents are refused where they must be held whole.
MAX_BYTES = 1 << 30

#: Suffixes of pictures; what the program does not train from is written anew as PNG.
PICTURE_SUFFIXES = (*IMAGE_SUFFIXES, ".bmp", ".gif")

#: How far outside the picture a point may lie, in pixels: a pen slips, but not this far.
MAX_COORDINATE = 1e6


def library(module: str, what: str) -> Any:
    """Import a library of the extra ``formats``.

    Raises:
        ConfigError: it is not installed.
    """
    return extras.library(module, what, "which reads and writes it", "formats")


@contextlib.contextmanager
def reading(where: object, what: str, do: str = "export the file again; it may be cut short") -> Iterator[None]:
    """Turn whatever a decoder raises into one of our messages, and keep its warnings to ourselves."""
    try:
        with warnings.catch_warnings(), without_log("tifffile"):
            warnings.simplefilter("ignore")
            yield
    except ScribblesegError:
        raise
    except FileNotFoundError:
        raise DataError(where, what, "no such file", "check the path") from None
    except RecursionError:
        raise DataError(where, what, "a document nested too deeply", do) from None
    except MemoryError:
        raise DataError(where, what, "more than fits into memory", do) from None
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:300]
        raise DataError(where, what, reason, do) from None


def safe_name(name: object, where: object) -> str:
    """Return the name of an image, folders in front allowed, if it may be used under a folder of ours.

    Raises:
        DataError: it is empty, absolute, climbs with ``..``, or holds what no list of names can hold.
    """
    text = name if isinstance(name, str) else ""
    parts = text.split("/")
    bad = (
        text != text.strip()
        or "\\" in text
        or not text.isprintable()
        or any(part in ("", ".", "..") or len(part.encode("utf-8", "replace")) > 200 for part in parts)
        or len(text) > 1000
    )
    if bad:
        got = repr(name)[:120]
        raise DataError(where, "an image's name inside its folder", got, "rename the image and export again")
    return text


def safe_stem(name: object, where: object) -> str:
    """Return the name of an image without the suffix of a picture; see :func:`safe_name`."""
    text = safe_name(name, where)
    suffix = next((s for s in PICTURE_SUFFIXES if text.lower().endswith(s)), "")
    return safe_name(text[: len(text) - len(suffix)], where)


def check_shape(where: object, height: object, width: object) -> tuple[int, int]:
    """Return (height, width) as whole numbers.

    Raises:
        DataError: they are none, or the picture would be larger than any that is read.
    """
    try:
        size = int(str(height)[:20]), int(str(width)[:20])
    except ValueError:
        size = (0, 0)
    if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
        got = f"{str(width)[:20]} × {str(height)[:20]}"
        raise DataError(where, f"a picture of 1 to {MAX_PIXELS} pixels", got, "check what the file says of its size")
    return size


def as_points(where: object, values: Any) -> np.ndarray:
    """Return points float64 (N, 2), x before y, from a nested or a flat list.

    Raises:
        DataError: they are no pairs of numbers, or lie absurdly far out.
    """
    try:
        points = np.asarray(values, dtype=np.float64)
        points = points.reshape(-1, 2) if points.ndim == 1 and points.size % 2 == 0 else points
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise DataError(where, "points as pairs of numbers", repr(values)[:80], "export the file again")
    if not (np.abs(points) <= MAX_COORDINATE).all():  # false for NaN too
        raise DataError(where, "points in or near the picture", "a coordinate far outside, or none", "mend the file")
    return points


def number(where: object, value: object) -> float:
    """Return a finite number.

    Raises:
        DataError: it is none.
    """
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if not isinstance(value, bool) and math.isfinite(result := float(value)):  # type: ignore[arg-type]
            return result
    raise DataError(where, "a number", repr(value)[:80], "export the file again")


def load_json(path: Path, what: str) -> Any:
    """Read a JSON document whole.

    Raises:
        DataError: missing, too large, too deep, or not JSON.
    """
    with reading(path, what):
        if path.stat().st_size > MAX_BYTES:
            raise DataError(path, f"a document of at most {MAX_BYTES >> 20} MiB", "a larger one", "export it in parts")
        return json.loads(path.read_text(encoding="utf-8-sig"))


def check_depth(path: Path, most: int = 64) -> None:
    """Refuse a JSON document that is nested deeply, without parsing it.

    Raises:
        DataError: it is, or it cannot be read.

    Cost: a quick pass over the file, a mebibyte in memory.
    """
    step = np.zeros(256, np.int8)
    step[[ord("["), ord("{")]], step[[ord("]"), ord("}")]] = 1, -1
    others = bytes(set(range(256)) - set(b'[]{}"'))
    depth, inside, rest = 0, False, b""
    with reading(path, "a JSON document"), path.open("rb") as stream:
        while block := stream.read(1 << 20):
            block = rest + block
            ends = len(block) - len(block.rstrip(b"\\"))
            rest = block[-1:] if ends % 2 else b""  # the first half of an escape
            plain = re.sub(rb"\\.", b"", block[: len(block) - len(rest)], flags=re.DOTALL).translate(None, others)
            parts = plain.split(b'"')
            outside = b"".join(parts[int(inside) :: 2])
            inside ^= len(parts) % 2 == 0
            steps = np.cumsum(step[np.frombuffer(outside, np.uint8)], dtype=np.int64)
            if len(steps):
                if depth + int(steps.max()) > most:
                    raise DataError(path, f"a document nested at most {most} deep", "a deeper one", "export the file again")
                depth += int(steps[-1])


def head(path: Path, size: int = 4096) -> str:
    """Return the first characters of a file, or nothing where there is none."""
    try:
        with path.open("rb") as stream:
            return stream.read(size).decode("utf-8", "replace")
    except OSError:
        return ""


def only_file(path: Path, *suffixes: str) -> Path | None:
    """Return the file itself, or the one file with such a suffix that a folder holds; else None."""
    if path.is_file():
        return path if path.suffix.lower() in suffixes else None
    return one[0] if len(one := files_in(path, *suffixes)) == 1 else None


def files_in(folder: Path, *suffixes: str, deep: bool = False) -> list[Path]:
    """Return the files of a folder with such a suffix, sorted; hidden ones are left out."""
    found = folder.rglob("*") if deep else folder.glob("*")
    wanted = [p for p in found if p.name.lower().endswith(suffixes) and not p.name.startswith((".", "._")) and p.is_file()]
    return sorted(wanted)
