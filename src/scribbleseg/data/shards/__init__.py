"""A data set in tar files, named as WebDataset names them, of which any file can be read at any time."""
