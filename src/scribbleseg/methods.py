"""The methods: loss settings by name, for a run to start from."""

from __future__ import annotations

from typing import Any

_DFR: dict[str, dict[str, Any]] = {
    "partial_cross_entropy": {},
    "dynamic_feature": {"weight": 9.2, "start": 0.1, "ramp": 0.3},
    "feature_consistency": {"weight": 0.3, "confident_after": 0.3},
}

#: Loss settings by method name. A run's ``losses`` section is laid over its method's.
METHODS: dict[str, dict[str, dict[str, Any]]] = {
    "partial_ce": {"partial_cross_entropy": {}},
    "static": {
        "partial_cross_entropy": {},
        "dynamic_feature": {
            "weight": 4.0,
            "start": 0.1,
            "ramp": 0.3,
            "static": {"weight": 1.0},
            "dynamic": None,
        },
    },
    "dfr": _DFR,
    # With labels of the average among the classes drawn in an image: for strokes that leave no class out.
    "dfr_pseudo": _DFR
    | {"pseudo_label": {"weight": 1.0, "start": 0.3, "ramp": 0.2, "confidence": 0.6, "margin": 0.03, "refine": {}}},
    "mean_teacher": {
        "partial_cross_entropy": {},
        "teacher_consistency": {"weight": 1.0, "ramp": 0.3, "curve": "sigmoid"},
    },
    "dual_branch": {
        "partial_cross_entropy": {"weight": 0.5},
        "branch_cross_entropy": {"weight": 0.5},
        "dynamic_mixing": {"weight": 0.5},
    },
    "dual_branch_soft": {
        "partial_cross_entropy": {"weight": 0.5},
        "branch_cross_entropy": {"weight": 0.5},
        "dynamic_mixing": {"weight": 0.5, "soft": True},
    },
}
