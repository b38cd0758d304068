"""Orthogonal convolution against the matrix of the convolution, and by hand."""

import pytest
import torch
from torch.nn import functional as F

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.orthogonal_convolution import convolution_penalty, dense_penalty
from tests.methods.fits import make_fit
from tests.networks import create

CONTRACT = {"weight": 0.1}
MODEL = {"cnn": {"filters": [3], "dense": 6}}


def row_products(kernel, stride):
    """The oracle: a row of the convolution's matrix for each filter and place, and its products
    with the rows of one place in the middle, from which all others are too far or alike."""
    filters, channels, size, _ = kernel.shape
    reach = (size - 1) // stride
    edge = size + 2 * reach * stride
    rows = []
    for top in range(0, edge - size + 1, stride):
        for left in range(0, edge - size + 1, stride):
            image = kernel.new_zeros(filters, channels, edge, edge)
            image[:, :, top : top + size, left : left + size] = kernel
            rows.append(image.flatten(1))
    middle = rows[len(rows) // 2]
    target = [torch.eye(filters) * (row is middle) for row in rows]
    return sum(
        ((middle @ row.T - t) ** 2).sum() for row, t in zip(rows, target, strict=True)
    ).item()


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_it_is_how_far_rows_of_the_convolution_s_matrix_are_from_orthonormal(size, stride):
    kernel = torch.randn(2, 3, size, size)
    got = convolution_penalty(kernel, (stride, stride)).item()
    assert got == pytest.approx(row_products(kernel, stride), rel=1e-4)


def test_opposite_corners_overlap():
    kernel = torch.zeros(1, 1, 3, 3)
    kernel[0, 0, 0, 0] = kernel[0, 0, 2, 2] = 0.5**0.5
    assert convolution_penalty(kernel, (1, 1)).item() == pytest.approx(0.5)
    overlaps = F.conv2d(kernel, kernel, padding=1)  # the official padding does not see it
    assert (overlaps.square().sum() - 1).item() == pytest.approx(0, abs=1e-6)


def test_an_orthogonal_kernel_costs_nothing_also_with_many_filters():
    kernel = torch.zeros(4, 1, 2, 2)
    kernel.view(4, 4)[:] = torch.linalg.qr(torch.randn(4, 4)).Q
    assert convolution_penalty(kernel, (2, 2)).item() == pytest.approx(0, abs=1e-5)
    many = torch.linalg.qr(torch.randn(5, 3)).Q[:, :, None, None]  # 5 filters, 3 channels, 1 x 1
    assert convolution_penalty(many, (1, 1)).item() == pytest.approx(0, abs=1e-5)
    assert dense_penalty(many[:, :, 0, 0]).item() == pytest.approx(0, abs=1e-5)


def test_a_dense_matrix_goes_by_its_smaller_side():
    weight = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    assert dense_penalty(weight).item() == dense_penalty(weight.T).item() == 10


def test_only_convolutions_of_the_trunk_and_if_asked_its_dense_layers():
    model = create("cnn", 3, filters=[4, 5], dense=6)
    method = methods.create("orthogonal_convolution", dense=True)
    method.prepare(model, make_fit())
    assert [c.out_channels for c in method.convolutions] == [4, 4, 5, 5]
    assert [layer.out_features for layer in method.layers] == [6]


@pytest.mark.parametrize("name", ["lstm", "transformer", "dnn"])
def test_models_without_convolutions_are_refused(name):
    with pytest.raises(InputError, match="no convolutions"):
        methods.create("orthogonal_convolution").prepare(create(name), make_fit())


def test_impossible_options_are_refused():
    with pytest.raises(InputError, match="weight"):
        methods.create("orthogonal_convolution", weight=-1.0)
