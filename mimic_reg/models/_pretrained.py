"""What the networks from torchvision share: input, weights, a trunk without the classifier.

The input is images in [0, 1] of any size, with one or three channels; the device resizes and
normalises them as for ImageNet. The networks' own dropout and stochastic depth are left out,
because methods regularise, at the same sites for all networks.

Shapes: B images, C channels, H, W pixels, D features.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from mimic_reg.errors import InputError
from mimic_reg.models.base import Model, images, linear
from mimic_reg.vision import torchvision

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# From the plain recipe, for all three. The second weights of ResNet-50 come from a training with
# much regularisation, and torchvision's default may change.
_WEIGHTS = "IMAGENET1K_V1"
_HASH_DIGITS = 8  # digits of SHA-256 in the names of torchvision's files


class Input(nn.Module):
    """Resize and normalise images: (B, C, H, W) in [0, 1] -> (B, 3, size, size)."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the images that the network sees."""
        if x.dim() != 4 or x.shape[1] not in (1, 3):
            raise InputError(
                "A network for images needs (B, 1 or 3, H, W), got a batch of shape "
                f"{tuple(x.shape)}. Train it on image_classification."
            )
        edges = x.shape[-2:]
        if edges != (self.size, self.size):
            shrinks = max(edges) > self.size  # then all pixels count, as in Pillow
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=shrinks)
        return (x.expand(-1, 3, -1, -1) - self.mean) / self.std


class ImageTrunk(nn.Module):
    """Return features (B, D) of images."""

    def __init__(self, size: int, network: nn.Module) -> None:
        super().__init__()
        self.input = Input(size)
        self.network = network

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the features (B, D); images have no lengths.

        Raises:
            InputError: in training, the batch is one image that is too small for batch norms.
        """
        seen = self.input(x)
        try:
            features: Tensor = self.network(seen)
        except ValueError as error:  # torch's: one value per channel has no variance
            if len(x) > 1:
                raise
            raise InputError(
                f"A batch norm cannot learn from a batch of one image of {self.input.size} pixels, "
                "and the last batch of a pass has one image. Choose another batch_size (in "
                "training), or a larger size of the model."
            ) from error
        return features


def builder(
    name: str, trunk: Callable[[Any], tuple[nn.Module, int]], *, least: int = 1, **options: float
) -> Callable[..., Model]:
    """Return the `build` of a network of torchvision with a new head.

    name:    name of the network in torchvision
    trunk:   network -> (module that computes its features, D)
    least:   smallest edge of images that the network accepts, pixels
    options: options of the network's constructor
    """

    def build(
        *,
        n_outputs: int,
        shape: tuple[int, ...],
        generator: torch.Generator,
        weights: str = "imagenet",
        size: int = 224,
    ) -> Model:
        """Return the model.

        shape:   (C, H, W) of the images, with one or three channels
        weights: imagenet (torchvision's IMAGENET1K_V1), none, or a file
        size:    edge to which images are resized, pixels

        Raises:
            InputError: torchvision or the weights are missing, or the file is not of this network.
        """
        if images(name, shape) not in (1, 3):
            raise InputError(f"{name} needs images with 1 or 3 channels, got {shape[0]}.")
        if size < least:
            raise InputError(f"{name}: size must be at least {least} pixels, got {size}.")
        make = getattr(torchvision().models, name)
        # torchvision draws from the global generator: seed it, and restore it afterwards
        seed = int(torch.randint(2**62, (), generator=generator))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network: nn.Module = make(weights=None, **options)
        if weights != "none":
            _load(network, name, weights)
        features, dim = trunk(network)
        head = linear(dim, n_outputs, generator)
        seen = 3 * size * size
        return Model(ImageTrunk(size, features), head, unit_numbers=seen, normalizer="unit")

    return build


def _load(network: nn.Module, name: str, weights: str) -> None:
    state = _imagenet(name) if weights == "imagenet" else _read(Path(weights))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        what = str(error).partition("\n")[2].strip().partition("\n")[0]
        raise InputError(f"The weights {weights} do not belong to {name}: {what}") from error


def _imagenet(name: str) -> dict[str, Tensor]:
    """Return the weights from torch's cache; download them first if they are missing."""
    url = torchvision().models.get_model_weights(name)[_WEIGHTS].url
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / url.rpartition("/")[2]
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), _digits(path), progress=False)
        except (URLError, OSError, RuntimeError) as error:
            raise InputError(
                f"The ImageNet weights of {name} are missing, and the download failed ({error}). "
                f"Download {url} on a machine with a network and put it at {path}, or train from "
                "scratch with the setting weights: none."
            ) from error
    if not _sha256(path).startswith(_digits(path)):
        raise InputError(f"{path} is damaged: its SHA-256 differs from its name. Remove it.")
    return _read(path)


def _digits(path: Path) -> str:
    return path.stem.rpartition("-")[2][:_HASH_DIGITS]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a .safetensors or .pth file; nothing else is read from it."""
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise InputError(
            f"weights must be imagenet, none, a .safetensors or a .pth file, got {str(path)!r}."
        )
    if not path.is_file():
        raise InputError(f"There is no file of weights {path}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise InputError(f"{path} is damaged, or not a file of weights: {error}") from error
    except Exception as error:  # weights_only raises pickle's error
        raise InputError(f"{path} contains more than tensors, so it is not read.") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path} must contain a dictionary of tensors.")
    return state
