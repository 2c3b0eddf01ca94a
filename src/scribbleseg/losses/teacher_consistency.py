"""Consistency with a teacher: the network agrees with its own moving average."""

from __future__ import annotations

import math
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from scribbleseg.config.sections import Fraction
from scribbleseg.losses.base import Loss, at_grid, at_least_float32
from scribbleseg.records import Terms


class TeacherConsistencyLoss(Loss):
    """Squared distance of the prediction to that of the averaged network, which gets no gradient.

        L = (1/|V|) Σ_{i∈V} g_i (1/C) ‖p_i − q_i‖²,   g_i = 1 if H(q_i) ≤ h·ln C, else 0

    V are the valid pixels of the logits' grid, p and q the softmax of network and teacher, H the entropy. A pixel the
    teacher is unsure of adds nothing to the sum and is counted all the same. The value is in [0, 2/C].

    Args:
        max_entropy: h, the largest entropy of a teacher that is believed, as a share of the largest there is; 1
            believes all.

    Cost: linear in B·C·h·w; the training step runs the averaged network once more, without a gradient.

    Reference: Tarvainen, Valpola, *Mean teachers are better role models*, arXiv 1703.01780, eq. 1–2. The gate is that of
    USTM (Liu et al., *Weakly Supervised Segmentation of COVID19 Infection with Scribble Annotation*, Pattern Recognition
    2022), whose code takes the entropy of eight predictions under noise, and ln 2 for ln C whatever C; here it is the
    teacher's one prediction. WSL4MIS has no padding to leave out, and divides by the pixels that pass its gate.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"teacher_logits", "valid"})

    def __init__(self, *, max_entropy: Fraction = 1.0) -> None:
        super().__init__()
        self.max_entropy = max_entropy

    def terms(  # type: ignore[override]
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        teacher_logits: Float[Tensor, "B C h w"],
        valid: Bool[Tensor, "B H W"],
    ) -> Terms:
        """Return the sum and the count; arguments as in :meth:`Loss.forward`."""
        p = at_least_float32(logits).softmax(1)
        log_q = at_least_float32(teacher_logits.detach()).log_softmax(1)
        q = log_q.exp().to(p.dtype)
        _, _, inside = at_grid(logits, valid=valid)
        assert inside is not None
        gate = inside
        if self.max_entropy < 1:
            gate = inside & (-(q * log_q).sum(1) <= self.max_entropy * math.log(logits.shape[1]))
        total = ((p - q).square().mean(1) * gate).sum()
        return Terms(total, inside.sum().to(total.dtype))
