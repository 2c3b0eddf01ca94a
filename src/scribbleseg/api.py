"""The same as the command line, for Python.

from scribbleseg.api import check, evaluate, load_config, predict_folder, report, summary, train

print(check("leaves").verdict.text)
train(load_config(overrides={"data": {"root": "leaves"}}), "runs/leaves")
scores = summary(evaluate("runs/leaves", "leaves", split="test"))
masks = list(predict_folder("runs/leaves", "photos", "masks"))
report(["runs/leaves"], "report.html")
"""

from scribbleseg.check.run import check
from scribbleseg.config import RunConfig, load_config
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.images import read_rgb
from scribbleseg.evaluate import evaluate
from scribbleseg.export.hub import export_hub
from scribbleseg.export.onnx import export_onnx
from scribbleseg.export.program import export_program
from scribbleseg.export.push import push
from scribbleseg.models.folder import TrainedModel, load_model
from scribbleseg.predict import OUTPUTS, Outcome, Views, predict_folder, predict_inputs, predict_mask, probabilities
from scribbleseg.report.page import report
from scribbleseg.scores import summary
from scribbleseg.training.run import train

__all__ = [
    "OUTPUTS",
    "Dataset",
    "Outcome",
    "RunConfig",
    "TrainedModel",
    "Views",
    "check",
    "evaluate",
    "export_hub",
    "export_onnx",
    "export_program",
    "load_config",
    "load_model",
    "open_dataset",
    "predict_folder",
    "predict_inputs",
    "predict_mask",
    "probabilities",
    "push",
    "read_rgb",
    "report",
    "summary",
    "train",
]
