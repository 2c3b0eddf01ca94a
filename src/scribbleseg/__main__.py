"""``python -m scribbleseg`` is the command ``scribbleseg``."""

from scribbleseg.cli import main

if __name__ == "__main__":
    main()
