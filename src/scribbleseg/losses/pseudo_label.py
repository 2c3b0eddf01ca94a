"""Pseudo labels: the network learns what its own moving average is sure of, among the classes that were drawn."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.config.sections import Fraction, Positive
from scribbleseg.losses.base import Loss, at_grid, at_labels, at_least_float32, possible_classes
from scribbleseg.ops.mean_field import window_mean_field
from scribbleseg.records import UNLABELLED, Terms


class Window(BaseModel):
    """Numbers of the mean field that draws labels to the borders of colours nearby; see ``ops.mean_field``.

    Attributes:
        weight: of a message, which is a mean over the window, against the log-probability of the teacher.
        radius: window half-width, in steps.
        steps_across: steps along the longer side of the map the loss is given: in training, of a crop.
        sigma_rgb: width in colour, on the [0, 1] range.
        num_steps: of the mean field.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: Positive = 10.0
    radius: Annotated[int, Field(ge=1)] = 4
    steps_across: Positive = 64.0
    sigma_rgb: Positive = 0.05
    num_steps: Annotated[int, Field(ge=1)] = 3


class PseudoLabelLoss(Loss):
    """Cross-entropy of unlabelled pixels with the class that the averaged network gives them, where that is sure enough.

        L = −(1/|U|) Σ_{i∈U} [q_i(y_i) ≥ τ] log p_i(y_i),   y_i = argmax_c q_i(c)
        q_i = softmax of the teacher's scores over the classes that were drawn in i's image

    U are the valid pixels of the logits' grid that nobody drew on, p the softmax of the network. The teacher sees the image
    in its true colours, without noise; it gets no gradient. A pixel it is unsure of adds nothing and is counted all the same,
    so the loss grows as the teacher learns.

    A photograph of a sheep with strokes for sheep and ground leaves two classes to choose from: a teacher that cannot tell a
    sheep from a cow yet labels that image without error, and what it labels teaches the difference. It holds where people
    draw every class they see, as in ScribbleSup, on ACDC and in most tools; for strokes that leave classes out, see
    ``among``. An image without any stroke has all classes to choose from.

    With ``refine`` the labels are as fine as the image: scores of teacher and network are enlarged to its grid, the strokes
    take the place of what the teacher says there, and q becomes the marginals of a mean field in a window of each pixel,
    which draws borders that no coarse grid has. U are then pixels of the image.

    Nearer to a stroke than ``margin`` no pixel is labelled with another class than the stroke's: around a large thing's stroke
    there is nothing else, and a small thing is not painted over by what lies around it.

    Args:
        confidence: τ, the least probability of a label, once the other classes are out.
        among: the classes a label may be of: those ``drawn`` in the image, or ``all``.
        margin: share of the longer side of the map that labels are made on.
        refine: numbers of the mean field, ``{}`` for its defaults; None leaves the teacher's labels as they are.

    Cost: linear in B·C·h·w; the training step runs the averaged network once more, without a gradient. With ``refine``
    linear in B·C·H·W, and (2r + 1)² pairs a pixel and step of the mean field.

    Reference: Lee, *Pseudo-Label*, ICML 2013 workshop, with the threshold of Sohn et al., *FixMatch*, arXiv 2001.07685, and
    the teacher of Tarvainen, Valpola, arXiv 1703.01780. Labels among the drawn classes alone are what ScribbleSup's graph
    cut has (Lin et al., CVPR 2016, eq. 2).

    Example:
        >>> import torch
        >>> nobody, valid = torch.full((1, 2, 2), 255), torch.ones(1, 2, 2, dtype=torch.bool)
        >>> teacher = torch.tensor([0.0, 4.0, 9.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)  # sure of a class that nobody drew
        >>> drawn = torch.tensor([[True, True, False]])
        >>> even = torch.zeros(1, 3, 2, 2)
        >>> float(PseudoLabelLoss()(even, labels=nobody, drawn=drawn, teacher_clean_logits=teacher, valid=valid))  # ln 3
        1.098...
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels", "drawn", "teacher_clean_logits", "valid"})

    def __init__(
        self,
        *,
        confidence: Fraction = 0.8,
        among: Literal["drawn", "all"] = "drawn",
        margin: Fraction = 0.0,
        refine: Window | None = None,
    ) -> None:
        super().__init__()
        self.confidence, self.among, self.margin, self.refine = confidence, among, margin, refine
        self.needs = PseudoLabelLoss.needs - (frozenset() if among == "drawn" else {"drawn"})
        self.needs |= frozenset() if refine is None else {"rgb"}

    def terms(  # type: ignore[override]
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        labels: Int[Tensor, "B H W"],
        teacher_clean_logits: Float[Tensor, "B C h w"],
        valid: Bool[Tensor, "B H W"],
        drawn: Bool[Tensor, "B K"] | None = None,
        rgb: Float[Tensor, "B 3 H W"] | None = None,
    ) -> Terms:
        """Return the sum and the count; arguments as in :meth:`Loss.forward`."""
        logits, scores = at_least_float32(logits), at_least_float32(teacher_clean_logits.detach())
        if self.refine is not None:
            logits, scores = at_labels(logits, labels), at_labels(scores, labels)
        _, known, inside = at_grid(logits, labels=labels, valid=valid)
        assert known is not None
        assert inside is not None
        sure, label = self._labels(scores, known, inside, drawn, rgb)
        asked = inside & (known == UNLABELLED)
        cost = F.cross_entropy(logits, label, reduction="none")
        return Terms(torch.where(asked & (sure >= self.confidence), cost, 0.0).sum(), asked.sum().to(cost.dtype))

    def _labels(
        self,
        scores: Float[Tensor, "B C h w"],
        known: Int[Tensor, "B h w"],
        inside: Bool[Tensor, "B h w"],
        drawn: Bool[Tensor, "B K"] | None,
        rgb: Float[Tensor, "B 3 h w"] | None,
    ) -> tuple[Float[Tensor, "B h w"], Int[Tensor, "B h w"]]:
        """Return how sure each label is (−1 where none may be) and its class; impossible classes cost nothing."""
        possible = torch.ones_like(scores[:, :, 0, 0], dtype=torch.bool)
        if self.among == "drawn":
            assert drawn is not None
            possible = possible_classes(drawn, scores.shape[1])
        most = int(possible.sum(1).amax())
        classes = torch.argsort((~possible).byte(), dim=1, stable=True)[:, :most]
        scores = scores.gather(1, classes[:, :, None, None].expand(-1, -1, *scores.shape[-2:]))
        probs = scores.masked_fill(~possible.gather(1, classes)[:, :, None, None], -torch.inf).softmax(1)
        strokes = (classes[:, :, None, None] == known[:, None]).to(probs.dtype)
        if self.refine is not None:
            assert rgb is not None
            probs = torch.where((known == UNLABELLED)[:, None], probs, strokes)
            probs = window_mean_field(probs, rgb.to(probs.dtype), inside, **self.refine.model_dump())
        sure, index = probs.max(1)
        if reach := round(self.margin * max(known.shape[-2:])):
            near = F.max_pool2d(F.max_pool2d(strokes, (2 * reach + 1, 1), 1, (reach, 0)), (1, 2 * reach + 1), 1, (0, reach))
            sure = sure.masked_fill(near.sum(1) > near.gather(1, index[:, None])[:, 0], -1.0)
        return sure, classes.gather(1, index.flatten(1)).view_as(index)
