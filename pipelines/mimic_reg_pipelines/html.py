"""Pages of our own in MLflow's server: templates that escape whatever is put into them."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, **context: Any) -> Markup:
    """Return a template of this package, filled; a name that it needs and does not get fails."""
    return Markup(_environment().get_template(template).render(context))


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("mimic_reg_pipelines"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
