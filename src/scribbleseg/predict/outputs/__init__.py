"""Outputs of a prediction, by name. A new one is a class in a file here and a line in ``OUTPUTS``."""

from __future__ import annotations

from collections.abc import Iterable

from scribbleseg.errors import ConfigError, nearest
from scribbleseg.predict.outputs.arrays import Ilastik, Zarr
from scribbleseg.predict.outputs.output import Output
from scribbleseg.predict.outputs.pictures import Mask, Overlay, Probabilities, Uncertainty, UncertaintyTiff
from scribbleseg.predict.outputs.vectors import Coco, Polygons
from scribbleseg.predict.outputs.volumes import Napari, Nifti, NnUnet

OUTPUTS: dict[str, Output] = {
    "mask": Mask(),
    "overlay": Overlay(),
    "probabilities": Probabilities(),
    "zarr": Zarr(),
    "uncertainty": Uncertainty(),
    "uncertainty_tiff": UncertaintyTiff(),
    "polygons": Polygons(),
    "coco": Coco(),
    "nifti": Nifti(),
    "ilastik": Ilastik(),
    "napari": Napari(),
    "nnunet": NnUnet(),
}

#: What is written where nobody says otherwise.
USUAL = ("mask", "overlay")


def chosen(names: Iterable[str]) -> dict[str, Output]:
    """Return the outputs of these names, each once.

    Raises:
        ConfigError: one is not known, there is none, or its library is not installed.
    """
    found: dict[str, Output] = {}
    for name in names:
        name = name.strip().replace("-", "_")
        if name not in OUTPUTS:
            raise ConfigError("--outputs", "known outputs", f"'{name}'", nearest(name, OUTPUTS))
        OUTPUTS[name].check()
        found[name] = OUTPUTS[name]
    if not found:
        raise ConfigError("--outputs", "at least one output", "none", f"name some of: {', '.join(OUTPUTS)}")
    return found


def table() -> str:
    """Return the list of outputs that the command line prints."""
    width = max(map(len, OUTPUTS)) + 2
    lines = [
        f"{name:<{width}}{output.folder + '/' if output.folder else '':<18}{output.title}" for name, output in OUTPUTS.items()
    ]
    return "\n".join([f"{'name':<{width}}{'folder':<18}what", *lines])
