"""What `mimic-reg sweep` imports, also late: loaded once by the process that `forked.py` forks."""

# ruff: noqa: F401
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg
    import mlflow.pyfunc
    import mlflow.store.tracking.sqlalchemy_store
    import torch._dynamo  # by the first optimiser
    from mlflow.utils import requirements_utils

    import mimic_reg.learners.deep
    import mimic_reg.report.page
    import mimic_reg_pipelines.commands
    import mimic_reg_pipelines.flows.report
    import mimic_reg_pipelines.flows.sweep
    import mimic_reg_pipelines.tracking.serving

    requirements_utils._init_packages_to_modules_map()  # MLflow reads all of site-packages once
