"""The drawing page and what learns behind it."""
