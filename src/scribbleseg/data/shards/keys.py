"""How files are named in shards: ``STEM.image.jpg`` and so on, all files of a stem one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from scribbleseg.data.readers import IN_SHARDS

#: A file's key of its own is what WebDataset takes for its extension: from the first dot on. So stems have none there.
_QUOTED = {"%": "%25", ".": "%2E"}


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Words = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...], BeforeValidator(_listed), Field(min_length=1)
]


class ShardsSpec(BaseModel):
    """The part ``shards`` of ``dataset.yaml``.

    Attributes:
        files: patterns of the tar files, below the data set's folder or absolute; there is at least one.
        images, scribbles, strokes, masks: what stands between a stem and the suffix of its files of this kind (``image``), or
            all that follows the stem (``jpg``, ``seg.png``); one or several.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: Words = ("*.tar",)
    images: Words = ("image",)
    scribbles: Words = ("scribble",)
    strokes: Words = ("strokes",)
    masks: Words = ("mask",)


#: Extension in a shard, in small letters, and the folder in which its file would lie in a plain data set.
Naming = tuple[tuple[str, str, str], ...]


def naming(spec: ShardsSpec, folders: Mapping[str, str]) -> Naming:
    """Return (extension, folder, suffix) of every extension that a data set's files may have in shards.

    Args:
        spec: the keys of each kind.
        folders: name of each kind's folder.
    """
    places = ((kind, PurePosixPath(folder).as_posix()) for kind, folder in folders.items())
    return tuple(dict.fromkeys(row for kind, folder in places for row in _of_kind(spec, kind, folder)))


def _of_kind(spec: ShardsSpec, kind: str, folder: str) -> Iterator[tuple[str, str, str]]:
    suffixes = (".json",) if kind == "strokes" else IN_SHARDS
    for key in getattr(spec, kind):
        whole = next((suffix for suffix in suffixes if f".{key}".lower().endswith(suffix)), None)
        for suffix in suffixes if whole is None else (whole,):
            yield (key if whole else f"{key}{suffix}").lower(), folder, suffix


def member_name(stem: str, key: str, suffix: str) -> str:
    """Return what a file is called in a shard."""
    above, slash, base = stem.rpartition("/")
    return f"{above}{slash}{re.sub('[.%]', lambda m: _QUOTED[m[0]], base)}.{key}{suffix}"


def path_of(name: str, known: Mapping[str, tuple[str, str]]) -> str | None:
    """Return folder and name that a file of a shard would have in a plain data set, or None where it is none of ours.

    Args:
        name: in the shard.
        known: folder and suffix by extension.
    """
    above, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    found = known.get(extension.lower())
    if found is None or not stem:
        return None
    folder, suffix = found
    plain = re.sub("%2E|%25", lambda m: "." if m[0] == "%2E" else "%", stem)
    return f"{folder}/{above}{slash}{plain}{base[len(base) - len(suffix) :]}"
