"""What holds for every model, found by discovery."""

import pytest
import torch

from mimic_reg import models
from mimic_reg.errors import InputError
from mimic_reg.models.base import Model, Site, constant_logits, glorot_uniform_, loss_of
from mimic_reg.settings import CONFIGS, load_yaml
from tests.networks import create

COUNTS = {
    ("lstm", 1): 682_497,
    ("lstm", 25): 694_809,
    ("transformer", 1): 1_274_177,
    ("transformer", 10): 1_275_338,
    ("transformer", 25): 1_277_273,
    ("causal_lstm", 1): 341_249,  # 4 x 256 x (76 + 256 + 1), and 257 of the head
    ("causal_lstm", 25): 347_417,
    ("causal_transformer", 1): 1_274_177,
    ("causal_transformer", 25): 1_277_273,
    ("gru", 1): 256_769,  # 3 x 256 x (76 + 256 + 2), and 257
    ("gru", 25): 262_937,
    # 64 x (3 x 76 + 1), 11 x 64 x (3 x 64 + 1), 64 x 77 of the dense layer, and 65 of the head
    ("tcn", 1): 155_521,
    ("tcn", 25): 157_081,
    # two directions: 2 x 4 x 8 x (76 + 8 + 1), 4 x 16 x (16 + 16 + 1) of the last layer, and 17
    ("standard_lstm", 1): 7_569,
    ("standard_lstm", 25): 7_977,
    # of 17 variables with 76 channels: 2 x 4 x 4 x (76 + 17 x 5), 4 x 32 x (136 + 32 + 1), and 33
    ("channel_wise_lstm", 1): 26_817,
    ("channel_wise_lstm", 25): 27_609,
    # 3 x 64 x (76 + 64 + 1), decay: 2 x 59 of values and 64 x (17 + 1) of the state, and 65
    ("gru_d", 1): 28_407,
    ("gru_d", 25): 29_967,
    ("dnn", 10): 1_494_154,
    ("cnn", 10): 322_602,
}
PRETRAINED = {"efficientnet_b0", "resnet50", "vgg16"}  # see test_pretrained
SITES = {
    "lstm": [512],
    "transformer": [76, 76, 76, 76, 128],
    "dnn": [1024, 512, 256, 128],
    "cnn": [256],
    "causal_lstm": [256],
    "causal_transformer": [76, 76, 76, 76, 128],
    "gru": [256],
    "tcn": [64] * 7,
    "standard_lstm": [16, 16],
    "channel_wise_lstm": [136, 32],
    "gru_d": [64],
}
CAUSAL = ["causal_lstm", "causal_transformer", "gru", "gru_d", "tcn"]
SEQUENCE_MODELS = ["lstm", "transformer", "standard_lstm", "channel_wise_lstm", *CAUSAL]
LENGTHS = torch.tensor([7, 1, 4, 7, 2])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def inputs(name, num=5):
    generator = seeded(1)
    shape = {"dnn": (num, 784), "cnn": (num, 3, 9, 8)}.get(name, (num, 7, 76))
    return torch.randn(shape, generator=generator)


@pytest.fixture(scope="module", params=sorted(set(models.names()) - PRETRAINED))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return create(name, 3, generator=seeded())


@pytest.mark.parametrize(("name", "n_outputs"), COUNTS)
def test_trainable_parameters_are_as_published(name, n_outputs):
    model = create(name, n_outputs)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert count == COUNTS[name, n_outputs]


def test_every_model_is_counted():
    assert {name for name, _ in COUNTS} == set(SITES) == set(models.names()) - PRETRAINED


def test_output_shape_and_features(model, name):
    x = inputs(name)
    logits = model(x, LENGTHS)
    assert logits.shape == (5, 3)
    assert logits.dtype == torch.float32
    assert torch.equal(model.head(model.features(x, LENGTHS)), logits)
    assert isinstance(model, Model)


def test_sites_are_where_methods_act(model, name):
    assert [site.dim for site in model.sites] == SITES[name]
    assert all(isinstance(site, Site) and len(site) == 0 for site in model.sites)


def test_sites_see_their_size_last(name):
    model = create(name, 3, generator=seeded())
    seen = []
    for site in model.sites:
        site.register_forward_hook(lambda module, x, y: seen.append(y.shape[-1]))
    model(inputs(name), LENGTHS)
    assert seen == SITES[name]


def test_what_a_method_appends_acts(name):
    model = create(name, 3, generator=seeded())
    x = inputs(name)
    before = model(x, LENGTHS)
    model.fill_sites(lambda dim: torch.nn.Threshold(1e9, 0.25))  # replaces everything by 0.25
    after = model(x, LENGTHS)
    assert not torch.allclose(before, after)
    assert torch.allclose(after, after[:1].expand_as(after))


def test_the_generator_decides_the_weights_and_the_global_one_is_left_alone(name):
    state = torch.get_rng_state()
    first = create(name, 2, generator=seeded(3)).state_dict()
    again = create(name, 2, generator=seeded(3)).state_dict()
    other = create(name, 2, generator=seeded(4)).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_without_a_generator_torch_s_own_seed_decides(name):
    def weights():
        torch.manual_seed(5)
        return create(name).head.weight

    assert torch.equal(weights(), weights())


@pytest.mark.parametrize("name", SEQUENCE_MODELS)
def test_extra_padding_changes_nothing(name):
    model = create(name, 3, generator=seeded())
    x = inputs(name)
    for i, length in enumerate(LENGTHS):
        x[i, length:] = 0
    padded = torch.nn.functional.pad(x, (0, 0, 0, 9))
    padded[:, 7:] = 123.0
    with torch.no_grad():
        assert (model(padded, LENGTHS) - model(x, LENGTHS)).abs().max() < 1e-6
        noise = x.clone()
        noise[1, 1:] = 55.0
        assert (model(noise, LENGTHS) - model(x, LENGTHS)).abs().max() < 1e-6


def test_a_sample_s_logits_do_not_depend_on_the_others(model, name):
    x = inputs(name)
    with torch.no_grad():
        together = model(x, LENGTHS)
        alone = torch.cat([model(x[i : i + 1], LENGTHS[i : i + 1]) for i in range(5)])
    assert (together - alone).abs().max() < 1e-6


@pytest.mark.parametrize("name", SEQUENCE_MODELS)
def test_no_gradient_reaches_the_padding(name):
    model = create(name, 3, generator=seeded())
    x = inputs(name).requires_grad_()
    (gradient,) = torch.autograd.grad(model(x, LENGTHS).sum(), x)
    for i, length in enumerate(LENGTHS):
        assert gradient[i, length:].eq(0).all()
        assert gradient[i, :length].ne(0).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: create("lsmt"), "Did you mean 'lstm'"),
        (lambda: create("lstm", unit=3), "Did you mean 'units'"),
        (lambda: create("transformer", norm="post"), "'pre', 'post_branch', got 'post'"),
        (lambda: create("base"), "Unknown model 'base'"),
        (lambda: create("lstm", units="8"), "units must be a whole number, got '8'"),
        (lambda: create("lstm", units=0), "lstm: units must be at least 1, got 0"),
        (lambda: create("transformer", heads=0), "heads must be at least 1, got 0"),
        (lambda: create("dnn", hidden=[]), "hidden must be one or more numbers"),
        (lambda: create("dnn", hidden=[8, 0]), r"at least 1, got \[8, 0\]"),
        (lambda: create("dnn", hidden=5), "a list, each a whole number, got 5"),
        (lambda: create("standard_lstm", units=5), "units must be even, got 5"),
        (lambda: create("channel_wise_lstm", size=0), "size must be at least 1, got 0"),
        (lambda: create("gru_d", shape=(1, 8, 8)), "gru_d is for hours; this cohort has images"),
        (lambda: models.create("gru_d", shape=(3,)), "needs the cohort's 3 channels, got none"),
        (lambda: create("cnn", filters=[]), "filters must be one or more numbers"),
        (lambda: create("cnn", dense=-1), "dense must be at least 1, got -1"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_every_model_has_a_configuration_with_all_its_settings(name):
    content = load_yaml(CONFIGS / "models" / f"{name}.yaml")
    content.pop("space")
    ((configured, settings),) = content.items()
    assert configured == name
    configured = create(name, 3, generator=seeded(), **settings)
    default = create(name, 3, generator=seeded())
    assert all(
        torch.equal(a, b)
        for a, b in zip(configured.parameters(), default.parameters(), strict=True)
    )


def test_glorot_limit():
    weight = torch.empty(2000, 100)
    glorot_uniform_(weight, (100, 50), seeded())
    assert weight.abs().max() <= 0.2  # sqrt(6 / 150)
    assert weight.abs().max() > 0.1999
    assert abs(weight.var().item() - 0.2**2 / 3) < 1e-4


def test_losses_are_means_over_labels_never_sums():
    logits = torch.tensor([[0.0, 2.0], [1.0, -1.0]])
    y = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    losses = loss_of("multilabel", logits, y)
    # -log(.5) = .693147; log(1 + e^-2) = .126928; log(1 + e) = 1.313262; log(1 + e^-1) = .313262
    assert losses.tolist() == pytest.approx([0.410038, 0.813262], abs=1e-6)
    repeated = loss_of("multilabel", logits.repeat(1, 25), y.repeat(1, 25))
    assert repeated.tolist() == pytest.approx(losses.tolist(), rel=1e-6)


def test_losses_of_every_target():
    logits = torch.tensor([[0.0, 0.0, 1.0]])
    assert loss_of("multiclass", logits, torch.tensor([2])).item() == pytest.approx(0.551445, 1e-5)
    soft = torch.tensor([[0.5, 0.0, 0.5]])
    assert loss_of("multiclass", logits, soft).item() == pytest.approx(1.051445, 1e-5)
    one = torch.tensor([[3.0]])
    assert loss_of("regression", one, torch.tensor([[1.0]])).item() == 4.0
    assert loss_of("binary", one * 0, torch.tensor([[1.0]])).item() == pytest.approx(0.693147, 1e-5)


def test_the_best_constant_prediction():
    label = torch.tensor([[1, 0], [0, 0], [0, 0], [0, 0]], dtype=torch.int8)
    logits = constant_logits("multilabel", label, 2)
    # log(1 / 3); a label that no sample has: half a sample of four, log(1 / 7)
    assert logits.tolist() == pytest.approx([-1.098612, -1.945910], abs=1e-6)
    entropy = loss_of("binary", logits[:1].expand(4, -1), label[:, :1].float()).mean()
    assert entropy.item() == pytest.approx(0.562335, abs=1e-6)  # -.25 log .25 - .75 log .75
    classes = torch.tensor([0, 0, 2, 0])
    shares = constant_logits("multiclass", classes, 3).exp()
    assert shares.tolist() == pytest.approx([0.75, 0.125, 0.25])
    hours = torch.tensor([[1.0], [4.0]])
    assert constant_logits("regression", hours, 1).tolist() == [2.5]


def test_labels_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"shape \(4, 2\), got \(4,\)"):
        loss_of("multilabel", torch.zeros(4, 2), torch.zeros(4))


@pytest.mark.parametrize("name", SEQUENCE_MODELS)
def test_images_are_refused_where_hours_are_needed(name):
    model = create(name, 1, generator=torch.Generator().manual_seed(0))
    with pytest.raises(
        InputError, match=rf"{name} was made for hours of 76 features.*\(2, 1, 8, 8"
    ):
        model(torch.zeros(2, 1, 8, 8), torch.ones(2, dtype=torch.int64))
