"""Names and types of MEDS 0.4: https://github.com/Medical-Event-Data-Standard/meds."""

import pyarrow as pa

VERSION = "0.4"
DATA = "data"
DATASET = "metadata/dataset.json"
CODES = "metadata/codes.parquet"
SPLITS = "metadata/subject_splits.parquet"
TASKS = "tasks"  # a folder of labels per task; MEDS leaves the name open

BIRTH, DEATH = "MEDS_BIRTH", "MEDS_DEATH"
STAY_START, STAY_END = "STAY//START", "STAY//END"
OWN = (BIRTH, DEATH, STAY_START, STAY_END)  # codes that are no variables of a store
SPLIT_NAMES = {"train": "train", "val": "tuning", "test": "held_out"}
# the label column of each target; MEDS has no multilabel tasks
LABELS = {
    "binary": "boolean_value",
    "multilabel": "boolean_value",
    "multiclass": "categorical_value",
    "regression": "float_value",
}
VALUES = ("boolean_value", "integer_value", "float_value", "categorical_value")
NUMBER, TEXT = "numeric_value", "text_value"

_ID, _TIME, _STRING = pa.int64(), pa.timestamp("us"), pa.string()
EVENTS = {
    "subject_id": _ID,
    "time": _TIME,
    "code": _STRING,
    NUMBER: pa.float32(),
    TEXT: pa.large_string(),
}
CODE_COLUMNS = {"code": _STRING, "description": _STRING, "parent_codes": pa.list_(_STRING)}
SPLIT_COLUMNS = {"subject_id": _ID, "split": _STRING}
LABEL_COLUMNS = {
    "subject_id": _ID,
    "prediction_time": _TIME,
    "boolean_value": pa.bool_(),
    "categorical_value": _STRING,
    "float_value": pa.float32(),
}
