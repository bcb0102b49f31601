"""PyTorch and torchxrayvision, whose networks and preprocessing ours is held against."""

import importlib.util
import sys
import types
from functools import cache
from typing import Any

import numpy as np

from tests.peers.programs import absent


@cache
def torchxrayvision() -> Any:  # noqa: ANN401 - a module without types
    """Return the module; of torchvision only what is plain Python is needed, and imports without the rest."""
    for name in ("torch", "torchvision", "torchxrayvision"):
        if importlib.util.find_spec(name) is None:
            absent(f"{name} is not installed (tests/peers/install.sh)")
    # one of its baselines imports a package `model` of its own from wherever it is started
    sys.modules.setdefault("torchxrayvision.baseline_models", types.ModuleType("torchxrayvision.baseline_models"))
    if "torchvision" not in sys.modules:
        spec = importlib.util.find_spec("torchvision")
        bare = types.ModuleType("torchvision")
        bare.__path__ = list(spec.submodule_search_locations or []) if spec else []
        sys.modules["torchvision"] = bare
    import torchxrayvision

    return torchxrayvision


def densenet(labels: int = 18, channels: int = 1, seed: int = 0) -> Any:  # noqa: ANN401
    """A network of torchxrayvision's class, random down to its batch normalisations, answers of ordinary size."""
    import torch

    torch.set_num_threads(1)  # beside the threads of TensorFlow and OpenVINO in one process
    torch.manual_seed(seed)
    network = torchxrayvision().models.DenseNet(num_classes=labels, in_channels=channels)
    random = torch.Generator().manual_seed(seed)
    scale = 600.0 if channels == 1 else 1.0
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
            module.weight.data.uniform_(0.5, 1.5, generator=random)
            module.bias.data.normal_(0, 0.3, generator=random)
    with torch.no_grad():
        network.train()(torch.randn(4, channels, 96, 96, generator=random) * scale)  # statistics as of real images
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.mul_(torch.empty(module.running_mean.shape).uniform_(0.8, 1.2, generator=random))
                module.running_var.mul_(torch.empty(module.running_var.shape).uniform_(0.5, 1.5, generator=random))
                # some so small that the epsilon is what counts, with weights that keep the answers in bounds
                before = module.running_var[::7] + module.eps
                module.running_var[::7] = 1e-7
                module.weight.data[::7] *= ((1e-7 + module.eps) / before).sqrt()
    network.classifier.weight.data *= 0.1
    return network.eval()


def answers(network: Any, tensors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:  # noqa: ANN401
    """What a PyTorch network says of tensors [n, rows, columns, channels]."""
    import torch

    with torch.no_grad():
        found = [network(torch.from_numpy(np.ascontiguousarray(t.transpose(2, 0, 1))[np.newaxis])) for t in tensors]
    return torch.cat(found).numpy()


def old_names(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    """A state dict as CheXNet's public checkpoints have it: wrapped, with layer names of 2017 and a sigmoid's head."""
    import re

    renamed = {}
    for name, value in state.items():
        if not name.endswith(("num_batches_tracked", "op_threshs")):
            name = re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name)
            renamed[prefix + name.replace("classifier.", "classifier.0.")] = value
    return renamed
