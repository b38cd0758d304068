"""Choices for importing a MEDS data set."""

from pydantic import Field, model_validator

from mimic_reg.cohorts.settings import ImportSettings

Codes = dict[str, str | list[str]]  # column -> code, codes, or the beginning of codes: GENDER//*


class MedsSettings(ImportSettings):
    """How to read a MEDS data set and its labels; `ImportSettings` has the choices for the store.

    start:        the code with which a stay begins; a label belongs to the patient's last stay that
                  began before it, and sees its hours since then
    window:       instead of `start`: the hours before a label that its sample sees; each label is
                  then a stay of its own
    codes:        column: its code or codes; GENDER//* takes all codes that begin with GENDER//, and
                  a row without a value has the rest of its code as text. By default each code with
                  values is a column
    static_codes: the same for static columns, which have a row without a time, or take the last one
                  until the start of the stay; MEDS_BIRTH gives the age in years. By default the
                  codes without times, and the age
    stay:         the events' own column of stays, if they have one; otherwise stays are numbered
    splits:       by default those of metadata/subject_splits.parquet; otherwise shares and a seed
    """

    subject: str | None = "subject_id"
    start: str | None = None
    window: int | None = Field(default=None, ge=1, le=100_000)
    codes: Codes = Field(default_factory=dict)
    static_codes: Codes | None = None

    @model_validator(mode="after")
    def _is_for_meds(self) -> "MedsSettings":
        if (self.start is None) == (self.window is None):
            raise ValueError(
                "set either 'start', the code with which a stay begins, or 'window', the hours "
                "before each label"
            )
        for name in ("subject", "time", "time_unit", "before_admission"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"MEDS fixes {name!r}; leave it out")
        if self.splits.column:
            raise ValueError(
                "MEDS has its splits in metadata/subject_splits.parquet; leave out splits.column"
            )
        if self.stay in ("subject_id", "time", "code", "prediction_time"):
            raise ValueError(f"'stay' cannot be {self.stay!r}, which is another column of MEDS")
        return self
