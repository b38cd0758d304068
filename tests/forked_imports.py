"""What `mimic-reg sweep` imports, also late: loaded once by the process that `forked.py` forks."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow.utils import requirements_utils

    import mimic_reg_pipelines.commands
    import mimic_reg_pipelines.flows.report
    import mimic_reg_pipelines.flows.sweep
    import mimic_reg_pipelines.tracking.serving  # noqa: F401

    requirements_utils._init_packages_to_modules_map()  # MLflow reads all of site-packages once
