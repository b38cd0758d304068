"""The commands of `mimic-reg` that need Prefect or MLflow; thin: parse, call, print.

`mimic_reg.cli` finds `add_to` by its entry point, so that it need not know this package.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from mimic_reg.cli import err, out
from mimic_reg.console import progress
from mimic_reg.errors import InputError


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(predict)
    app.command()(ui)


Work = Annotated[
    Path, typer.Option("--work", help="The work folder of `mimic-reg run`.", metavar="WORK")
]


def _need_pipelines() -> None:
    try:
        import mlflow  # noqa: F401
        import prefect  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"This command needs {error.name}, which is not installed: "
            "pip install -c constraints.txt -e '.[pipelines]'"
        ) from error


def predict(
    model: Annotated[
        str,
        typer.Option(
            help="A run's folder, or models:/NAME@champion of the registry.", metavar="MODEL"
        ),
    ],
    store: Annotated[Path, typer.Option(help="The cohort store.", metavar="STORE")],
    file: Annotated[
        Path, typer.Option("--out", help="Parquet file for the predictions.", metavar="FILE")
    ],
    work: Annotated[
        Path | None,
        typer.Option(help="The work folder whose registry holds the model.", metavar="WORK"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1.")] = None,
) -> None:
    """Predict for every sample of a store, with a run's or a registered model."""
    _need_pipelines()
    from pipelines import serving, tracking

    uri = tracking.database(work) if work else None
    with progress(err) as shown:
        count = serving.predict(model, store, file, uri=uri, device=device, progress=shown)
    out.print(f"Wrote {count:,} predictions to {escape(str(file))}: it holds ids of stays.")


def ui(
    work: Work,
    port: Annotated[int, typer.Option(help="On this machine only.")] = 5000,
) -> None:
    """Open MLflow's pages on this machine, to compare runs; Ctrl-C ends them."""
    _need_pipelines()
    from pipelines import tracking
    from pipelines import ui as pages

    with progress(err) as shown:
        pages.serve_ui(tracking.database(work), port=port, progress=shown)
