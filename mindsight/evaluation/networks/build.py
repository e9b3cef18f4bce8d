"""torchvision's feature networks, cut behind the layers whose features are compared.

Knows nothing of files. Modules and keys are torchvision's, as in the published weights; modules that the layers do not
need (classifiers, the auxiliary head) are left out.
"""

from __future__ import annotations

from torch import device, nn

from mindsight.evaluation.networks.catalog import NetworkSpec


def build(spec: NetworkSpec) -> nn.Module:
    """The network of ``spec`` without weights (on the device ``meta``), in evaluation mode.

    It takes images (B, 3, H, W), normalised with ImageNet's mean and deviation, to layer -> (B, ...).
    """
    from torchvision.models.feature_extraction import create_feature_extractor  # a second of import

    with device("meta"):
        model = _whole(spec.key).eval()
    extractor: nn.Module = create_feature_extractor(
        model, {layer: layer for layer in spec.metrics}, suppress_diff_warning=True
    )
    return extractor


def _whole(key: str) -> nn.Module:
    from torchvision.models import alexnet, efficientnet_b1, inception_v3, resnet50

    made: nn.Module
    match key:
        case "alexnet":
            made = alexnet(weights=None)
        case "inception":
            # its weights were trained on pixels in [-1, 1]: transform_input undoes ImageNet's mean and deviation
            made = inception_v3(weights=None, transform_input=True, init_weights=False)
        case "efficientnet":
            made = efficientnet_b1(weights=None)
        case "swav":
            made = resnet50(weights=None)
        case _:
            raise ValueError(f"expected a network of torchvision, got {key}")
    return made
