"""Bytes with faults: what a disk, a network or a person who means harm makes of a sound file."""

from __future__ import annotations

import random
from collections.abc import Sequence

#: Words and numbers that programs trip over, in texts and in headers.
AWKWARD = [
    *(b"null", b"true", b"NaN", b"-1", b"0", b"1e999", b"[]", b"{}", b'""', b"&a [*a]", b"!!python/object:os.system", b"../", b"/etc/passwd"),
    *(b"9" * 30, b"[" * 200, b"[" * 2000, b'{"a":' * 100, b'{"a":' * 2000, b"\x00", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"%00", b"\r\n\r\n"),
]  # fmt: skip


def mutated(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """Return one of the samples with one to six faults; short files have more of them in each place."""
    data = bytearray(rng.choice(samples))
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at = int(len(data) * rng.random() ** rng.choice((1, 1, 3)))  # heads more often than tails
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[min(at, len(data) - 1)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + rng.choice((1, 2, 4, 16, 64))]
        elif kind == 4:
            data[at:at] = data[at : at + rng.choice((1, 4, 16, 256))] * rng.choice((1, 2, 50))
        elif kind == 5:
            awkward = rng.choice(AWKWARD)
            data[at : at + rng.choice((0, len(awkward)))] = awkward
        elif kind == 6:
            other = rng.choice(samples)
            start = rng.randrange(len(other) + 1)
            data[at : at + rng.choice((0, 64))] = other[start : start + rng.choice((4, 64))]
        else:
            digits = [k for k, byte in enumerate(data) if 48 <= byte < 58][:10_000]
            if digits:
                k = rng.choice(digits)
                data[k : k + 1] = rng.choice((b"0", b"-1", b"99999999999", b"1.5", b"1e9"))
    return bytes(data)
