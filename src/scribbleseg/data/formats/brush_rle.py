"""Label Studio's brush masks: run lengths of an RGBA picture, packed bit by bit.

A header says how many values follow (32 bits), how many bits a value has, and four widths in which lengths are written. Each
run begins with a bit that tells a repeated value from plain ones, then which width, then the length. The alpha channel is
the mask.

Reference: https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scribbleseg.errors import DataError

#: Bits of a value and of the four kinds of lengths, as Label Studio writes them.
WORD, WIDTHS = 8, (3, 4, 8, 16)


def decode_brush(where: object, values: Any, size: tuple[int, int]) -> np.ndarray:
    """Return which pixels a brush mask covers, bool (H, W).

    Args:
        where: the file, for messages.
        values: bytes as whole numbers.
        size: (height, width) that the region states.

    Raises:
        DataError: no bytes, another number of values than the size has, or runs that overrun it or break off.

    Cost: a step for each run; memory 4 bytes a pixel and 9 for each byte of the mask.
    """
    try:
        packed = np.asarray(values)
        ok = packed.ndim == 1 and packed.dtype.kind in "iu" and bool(((packed >= 0) & (packed < 256)).all())
    except (TypeError, ValueError, OverflowError):
        ok = False
    expected = 4 * size[0] * size[1]
    data = packed.astype(np.uint8).tobytes() if ok else b""
    stated = int.from_bytes(data[:4], "big")
    do = "export the annotation again"
    if len(data) < 8 or stated != expected:
        got = f"{stated}" if len(data) >= 8 else "no bytes of a mask"
        raise DataError(where, f"a brush mask of {expected} values, 4 a pixel", got, do)
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    at = 32

    def read(number: int) -> int:
        nonlocal at
        first, last = at >> 3, (at + number + 7) >> 3
        if at + number > 8 * len(data):
            raise DataError(where, "a brush mask that is whole", "one that breaks off", do)
        value = int.from_bytes(data[first:last], "big") >> (8 * last - at - number)
        at += number
        return value & ((1 << number) - 1)

    word = read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    out = np.zeros(expected, dtype=bool)
    done = 0
    while done < expected:
        repeated = read(1)
        length = read(widths[read(2)]) + 1
        if done + length > expected:
            raise DataError(where, f"runs of {expected} values in all", "more", do)
        if repeated:
            out[done : done + length] = read(word) > 0
        else:
            if at + length * word > len(bits):
                raise DataError(where, "a brush mask that is whole", "one that breaks off", do)
            out[done : done + length] = bits[at : at + length * word].reshape(length, word).any(1)
            at += length * word
        done += length
    return out[3::4].reshape(size)


def encode_brush(inside: np.ndarray) -> list[int]:
    """Return a mask, bool (H, W), as Label Studio's bytes: 255 in all four channels inside, 0 outside."""
    flat = np.repeat(inside.ravel(), 4)
    borders = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    lengths = np.diff(np.concatenate([[0], borders, [len(flat)]])).tolist()
    parts = [f"{len(flat):032b}", f"{WORD - 1:05b}", *(f"{width - 1:04b}" for width in WIDTHS)]
    value = 255 * bool(flat[0])
    for length in lengths:
        while length:
            chunk = min(length, 1 << WIDTHS[-1])
            kind = next(k for k, width in enumerate(WIDTHS) if chunk <= 1 << width)
            parts.append(f"1{kind:02b}{chunk - 1:0{WIDTHS[kind]}b}{value:0{WORD}b}")
            length -= chunk
        value = 255 - value
    text = "".join(parts)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))
