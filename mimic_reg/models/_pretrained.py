"""What the networks from torchvision share: input, weights, a trunk without its classifier.

Images come in as numbers in [0, 1], of any size and with one or three channels; on the device they
are resized and normalised as ImageNet's were. A network's own dropout and stochastic depth are left
out: regularisation is the methods' business, at the sites, the same for all.

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

# The plain recipe's, of all three. ResNet-50's second ones come of a training that was itself
# heavily regularised, and torchvision's own default may change.
_WEIGHTS = "IMAGENET1K_V1"
_HASH_DIGITS = 8  # of SHA-256, in the names of torchvision's files
_HASH_BLOCK = 1 << 22


class Input(nn.Module):
    """(B, C, H, W) in [0, 1] -> (B, 3, size, size), normalised."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if x.dim() != 4 or x.shape[1] not in (1, 3):
            raise InputError(
                "A network for images needs (B, 1 or 3, H, W), this batch has the shape "
                f"{tuple(x.shape)}. Train it on image_classification."
            )
        edges = x.shape[-2:]
        if edges != (self.size, self.size):
            shrinks = max(edges) > self.size  # as Pillow does, all pixels count then
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=shrinks)
        normalised: Tensor = (x.expand(-1, 3, -1, -1) - self.mean) / self.std
        return normalised


class ImageTrunk(nn.Module):
    """Images -> features (B, D)."""

    def __init__(self, size: int, network: nn.Module) -> None:
        super().__init__()
        self.input = Input(size)
        self.network = network

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, D); images have no lengths.

        Raises:
            InputError: in training, a single image that is too small for batch norms.
        """
        seen = self.input(x)
        try:
            features: Tensor = self.network(seen)
        except ValueError as error:  # torch's: one value a channel has no variance
            if len(x) > 1:
                raise
            raise InputError(
                f"A batch norm cannot learn from a batch of one image of {self.input.size} pixels: "
                "the last batch of a pass holds what is left over. Choose another batch_size (in "
                "training), or a larger size of the model."
            ) from error
        return features


def build_from(
    name: str,
    trunk: Callable[[Any], tuple[nn.Module, int]],
    *,
    n_outputs: int,
    shape: tuple[int, ...],
    generator: torch.Generator,
    weights: str,
    size: int,
    least: int = 1,
    **options: float,
) -> Model:
    """A network of torchvision with a new head.

    name:    of the network in torchvision
    trunk:   network -> (what gives its features, D)
    shape:   (C, H, W) of the images, with one or three channels
    weights: imagenet (torchvision's IMAGENET1K_V1), none, or a file
    size:    edge to which images are resized, pixels
    least:   the smallest such edge that the network can take
    options: of the network's own constructor

    Raises:
        InputError: torchvision or the weights are missing, or the file is not of this network.
    """
    if images(name, shape) not in (1, 3):
        raise InputError(f"{name} takes images with 1 or 3 channels, not {shape[0]}.")
    if size < least:
        raise InputError(f"{name}: size must be at least {least} pixels, not {size}.")
    make = getattr(torchvision().models, name)
    # torchvision draws from the global generator: give it a seed of ours, and leave it as it was
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = make(weights=None, **options)
    if weights != "none":
        _load(network, name, weights)
    features, dim = trunk(network)
    head = linear(dim, n_outputs, generator)
    return Model(ImageTrunk(size, features), head, unit_numbers=3 * size * size, normalizer="unit")


def _load(network: nn.Module, name: str, weights: str) -> None:
    state = _imagenet(name) if weights == "imagenet" else _read(Path(weights))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        what = str(error).partition("\n")[2].strip().partition("\n")[0]
        raise InputError(f"The weights {weights} are not of {name}: {what}") from error


def _imagenet(name: str) -> dict[str, Tensor]:
    """The weights in torch's cache, fetched first if need and network be."""
    url = torchvision().models.get_model_weights(name)[_WEIGHTS].url
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / url.rpartition("/")[2]
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), _digits(path), progress=False)
        except (URLError, OSError, RuntimeError) as error:
            raise InputError(
                f"The ImageNet weights of {name} are not here, and could not be fetched ({error}). "
                f"Download {url} where there is a network and put it at {path}, or train from "
                "scratch with the setting weights: none."
            ) from error
    if not _sha256(path).startswith(_digits(path)):
        raise InputError(f"{path} is damaged: its SHA-256 is not the one in its name. Remove it.")
    return _read(path)


def _digits(path: Path) -> str:
    return path.stem.rpartition("-")[2][:_HASH_DIGITS]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors in a .safetensors or .pth file; nothing else is ever read from one."""
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise InputError(f"weights is {str(path)!r}: imagenet, none, a .safetensors or .pth file.")
    if not path.is_file():
        raise InputError(f"There are no weights {path}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise InputError(f"{path} is damaged or no file of weights: {error}") from error
    except Exception as error:  # what weights_only refuses has an error class of pickle
        raise InputError(f"{path} holds more than tensors and is not read.") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path} holds no dictionary of tensors.")
    return state
