"""Compiled CPU kernels of scribbleseg; see ``scribbleseg.ops`` for what they compute."""
