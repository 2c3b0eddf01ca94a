"""scribbleseg: a few brush strokes per image become a dense segmentation network.

The functions for Python users are in :mod:`scribbleseg.api`, the losses in :mod:`scribbleseg.losses`.
"""

__version__ = "0.1.0"
