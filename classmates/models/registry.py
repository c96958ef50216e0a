"""The decorator that adds a backbone to timm's registry."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from classmates.models.backbone import Backbone

Constructor = Callable[..., Backbone]

# CIFAR-100's own statistics, as MCL-OKD's code has them; CORSD's normalises CIFAR-100 with CIFAR-10's.
CIFAR100 = {
    "input_size": (3, 32, 32),
    "num_classes": 100,
    "mean": (0.5071, 0.4867, 0.4408),
    "std": (0.2675, 0.2565, 0.2761),
    "crop_pct": 1.0,
}


def register(*, stages: int, first_conv: str = "stem.0", **config: Any) -> Callable[[Constructor], Constructor]:
    """Decorate a constructor so that ``timm.create_model(its name, ...)`` builds its network.

    The constructor takes ``num_classes``, ``in_chans`` and its family's own keywords; timm fills in the first two
    from the network's ``default_cfg``.

    Args:
        stages: length of the network's ``feature_info``; ``features_only=True`` gives that many maps.
        first_conv: name of the convolution that sees the image.
        config: fields of timm's ``PretrainedCfg`` that differ from CIFAR-100's.
    """

    def decorate(constructor: Constructor) -> Constructor:
        name = constructor.__name__

        @functools.wraps(constructor)
        def entrypoint(pretrained: bool = False, **kwargs: Any) -> Backbone:
            feature_cfg = {"out_indices": tuple(range(stages))}
            return build_model_with_cfg(constructor, name, pretrained, feature_cfg=feature_cfg, **kwargs)

        # timm looks for the configuration in the module that defines the entry point.
        configs = constructor.__globals__.setdefault("default_cfgs", {})
        configs.update(
            generate_default_cfgs({name: {**CIFAR100, "first_conv": first_conv, "classifier": "fc", **config}})
        )
        return register_model(entrypoint)

    return decorate
