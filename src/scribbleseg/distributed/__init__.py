"""Work spread over many machines (optional extra ``ray``): prediction of millions of files."""

from scribbleseg.distributed.run import Progress, Resources, predict_many

__all__ = ["Progress", "Resources", "predict_many"]
