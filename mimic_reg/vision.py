"""Import torchvision beside any build of torch.

Its compiled operators belong to one build of torch. Beside another (the CPU build, for example)
they do not load, and `import torchvision` fails, although models, transforms and data sets need
none of them. It is enough to declare the two operators for which it registers fake kernels.
"""

from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import torch

from mimic_reg.errors import InputError, install_advice

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # schemas exist as long as their library


def torchvision() -> ModuleType:
    """Return the package torchvision, imported when first needed.

    Raises:
        InputError: it is not installed.
    """
    try:
        return _import()
    except ModuleNotFoundError as error:
        raise InputError(
            f"Images need torchvision, which is not installed: {install_advice('images')}"
        ) from error
    except RuntimeError:  # "operator torchvision::nms does not exist"
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(schema)  # type: ignore[no-untyped-call]
        _declared.append(library)
        return _import()


def torchvision_version() -> str | None:
    """Return the installed version, or None."""
    try:
        return version("torchvision")
    except PackageNotFoundError:
        return None


def _import() -> ModuleType:
    import torchvision
    import torchvision.datasets
    import torchvision.models

    return torchvision
