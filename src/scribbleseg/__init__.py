"""scribbleseg: a few brush strokes per image become a dense segmentation network."""

__version__ = "0.1.0"
