"""The plugin for napari: our label files and data sets as layers, layers as our strokes and labels, and a network's answer.

napari finds it by ``napari.yaml``; nothing here imports napari or Qt.
"""
