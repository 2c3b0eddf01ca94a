"""Prediction: any image to class probabilities at its own size, a folder to masks."""

from scribbleseg.predict.bands import LARGE_PIXELS, predict_large, predicted_bands
from scribbleseg.predict.device import pick_device
from scribbleseg.predict.folder import Outcome, predict_folder, predict_inputs
from scribbleseg.predict.inputs import list_images
from scribbleseg.predict.outputs import OUTPUTS
from scribbleseg.predict.views import Views
from scribbleseg.predict.windows import OVERLAP, as_rgb, predict_mask, probabilities, refined_probabilities, window_starts

__all__ = [
    "LARGE_PIXELS",
    "OUTPUTS",
    "OVERLAP",
    "Outcome",
    "Views",
    "as_rgb",
    "list_images",
    "pick_device",
    "predict_folder",
    "predict_inputs",
    "predict_large",
    "predict_mask",
    "predicted_bands",
    "probabilities",
    "refined_probabilities",
    "window_starts",
]
