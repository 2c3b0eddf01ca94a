"""Work spread over many machines (optional extra ``ray``): prediction and evaluation of millions of files."""

from scribbleseg.distributed.engine import Progress, Resources
from scribbleseg.distributed.evaluation import Evaluation, evaluate_many
from scribbleseg.distributed.run import predict_many

__all__ = ["Evaluation", "Progress", "Resources", "evaluate_many", "predict_many"]
