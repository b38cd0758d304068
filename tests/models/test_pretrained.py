"""torchvision's networks as ours: sites, input, weights from files; nothing is fetched here."""

from functools import cache
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mimic_reg.errors import InputError
from mimic_reg.models import _pretrained
from mimic_reg.models._pretrained import IMAGENET_MEAN, IMAGENET_STD, Input
from mimic_reg.settings import CONFIGS, load_yaml
from mimic_reg.vision import torchvision
from tests.networks import create

if not find_spec("torchvision"):
    pytest.skip("torchvision is not installed", allow_module_level=True)

COUNTS = {"vgg16": 134_301_514, "resnet50": 23_528_522, "efficientnet_b0": 4_020_358}
SITES = {"vgg16": [4096, 4096], "resnet50": [2048], "efficientnet_b0": [1280]}
SMALL = {"weights": "none", "size": 32}
ONES = torch.ones(3, dtype=torch.int64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@cache  # VGG's 134 million numbers take seconds
def network(name):
    return create(name, 10, generator=seeded(), **SMALL).eval()


def images(num=3, channels=3, edge=40):
    return torch.rand(num, channels, edge, edge, generator=seeded(1))


@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_sites(name):
    model = network(name)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == COUNTS[name]
    assert [site.dim for site in model.sites] == SITES[name]


@pytest.mark.parametrize("name", COUNTS)
def test_images_of_any_size_and_grey_ones_give_logits(name):
    model = network(name)
    with torch.no_grad():
        assert model(images(), ONES).shape == (3, 10)
        grey = model(images(channels=1, edge=28), ONES)
        same = model(images(channels=1, edge=28).expand(-1, 3, -1, -1), ONES)
    assert torch.equal(grey, same)


def test_shrinking_counts_every_pixel():
    stripes = (torch.arange(32) % 4 == 0).float().expand(1, 3, 32, 32)
    seen = Input(8)(stripes)[..., 1:-1]
    grey = Input(8)(torch.full((1, 3, 8, 8), 0.25))[..., 1:-1]
    assert torch.allclose(seen, grey, atol=0.1)  # between the stripes there is nothing


def test_what_the_network_sees_and_takes_is_told():
    model = network("efficientnet_b0")
    assert (model.unit_numbers, model.normalizer) == (3 * 32 * 32, "unit")
    with pytest.raises(InputError, match="vgg16: size must be at least 32 pixels, got 31"):
        create("vgg16", 2, generator=seeded(), weights="none", size=31)


@pytest.mark.parametrize("name", COUNTS)
def test_nothing_is_random_but_the_methods(name):
    """Neither dropout nor stochastic depth of the original is left: training draws nothing."""
    model = network(name).train()
    for module in model.modules():
        assert not isinstance(module, nn.Dropout)
    state = torch.get_rng_state()
    with torch.no_grad():
        model(images(), ONES)
    assert torch.equal(torch.get_rng_state(), state)
    model.eval()


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0"])
def test_the_generator_decides_the_weights_and_the_global_one_is_left_alone(name):
    state = torch.get_rng_state()
    first, again, other = (
        create(name, 2, generator=seeded(s), **SMALL).state_dict() for s in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", COUNTS)
def test_what_a_method_appends_acts(name):
    model = network(name)
    with torch.no_grad():
        before = model(images(), ONES)
        model.fill_sites(lambda dim: nn.Threshold(1e9, 0.25))
        after = model(images(), ONES)
    for site in model.sites:
        del site[-1]
    assert not torch.allclose(before, after)
    assert torch.allclose(after, after[:1].expand_as(after))


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0"])
def test_gradients_of_gradients_reach_the_weights(name):
    """What the penalties on input gradients need, through resizing and batch norm."""
    model = create(name, 2, generator=seeded(), **SMALL).train()
    x = images().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x, ONES).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    reached = [p.grad.abs().sum() > 0 for p in model.parameters() if p.grad is not None]
    assert sum(reached) > len(reached) / 2


def test_the_input_is_resized_and_normalised_as_imagenet_s():
    x = images(edge=8)
    y = Input(8)(x)
    for channel in range(3):
        expected = (x[:, channel] - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
        assert torch.allclose(y[:, channel], expected)
    assert Input(16)(x).shape == (3, 3, 16, 16)
    constant = Input(16)(torch.full((1, 1, 4, 4), 0.5))
    assert torch.allclose(constant.std((2, 3)), torch.zeros(1, 3), atol=1e-6)


def test_torchvision_s_own_network_gives_the_same_features(tmp_path):
    """Weights go in as they are: features equal the original's, up to its classifier."""
    torch.manual_seed(0)
    original = torchvision().models.resnet50(weights=None).eval()
    save_file(original.state_dict(), tmp_path / "r.safetensors")
    torch.save(original.state_dict(), tmp_path / "r.pth")
    original.fc = nn.Identity()
    for file in ("r.safetensors", "r.pth"):
        model = create(
            "resnet50", 10, generator=seeded(), weights=str(tmp_path / file), size=40
        ).eval()
        with torch.no_grad():
            assert torch.equal(model.features(images(), ONES), original(Input(40)(images())))


def test_weights_that_cannot_be_used_are_refused(tmp_path):
    def make(weights):
        return create("resnet50", 10, generator=seeded(), weights=str(weights), size=32)

    with pytest.raises(InputError, match="There is no file of weights"):
        make(tmp_path / "none.pth")
    with pytest.raises(InputError, match=r"imagenet, none, a \.safetensors or a \.pth file"):
        make(tmp_path / "weights.pkl")
    save_file({"fc.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="do not belong to resnet50: Missing key"):
        make(tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match=r"broken\.safetensors is damaged"):
        make(tmp_path / "broken.safetensors")
    torch.save({"model": nn.Linear(1, 1)}, tmp_path / "code.pth")
    with pytest.raises(InputError, match="contains more than tensors, so it is not read"):
        make(tmp_path / "code.pth")
    with pytest.raises(InputError, match="size must be at least 1"):
        create("resnet50", weights="none", size=0)


def test_without_a_network_the_error_says_what_to_download(tmp_path, monkeypatch):
    def unreachable(url, path, digits, progress):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(InputError) as caught:
        create("efficientnet_b0", size=32)
    text = str(caught.value)
    assert "https://download.pytorch.org/models/efficientnet_b0" in text
    assert str(tmp_path / "checkpoints") in text
    assert "weights: none" in text


def test_a_cached_file_is_used_if_its_hash_fits_its_name(tmp_path, monkeypatch):
    name = "efficientnet_b0"
    original = torchvision().models.efficientnet_b0(weights=None)
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    digits = _pretrained._sha256(tmp_path / "weights.pth")[:8]
    path = tmp_path / "checkpoints" / f"{name}-{digits}.pth"
    path.parent.mkdir()
    (tmp_path / "weights.pth").rename(path)

    class File:
        url = f"https://example.org/{path.name}"

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        torchvision().models, "get_model_weights", lambda name: {"IMAGENET1K_V1": File}
    )
    model = create(name, size=32)
    expected = original.features[0][0].weight
    assert torch.equal(model.trunk.network.features[0][0].weight, expected)
    path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(InputError, match="damaged: its SHA-256 differs from its name"):
        create(name, size=32)


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0"])
def test_a_batch_of_one_small_image_is_refused(name):
    model = create(name, 2, generator=seeded(), **SMALL)
    with pytest.raises(InputError, match=r"one image of 32 pixels, .* another batch_size"):
        model.train()(images(1), ONES[:1])
    with torch.no_grad():
        assert model.eval()(images(1), ONES[:1]).shape == (1, 2)


def test_other_shapes_than_images_are_refused():
    with pytest.raises(InputError, match=r"\(B, 1 or 3, H, W\), got a batch of shape \(3, 784"):
        network("resnet50")(torch.zeros(3, 784), ONES)


@pytest.mark.parametrize("name", COUNTS)
def test_the_configuration_has_all_settings(name):
    content = load_yaml(CONFIGS / "models" / f"{name}.yaml")
    assert content[name] == {"weights": "imagenet", "size": 224}
