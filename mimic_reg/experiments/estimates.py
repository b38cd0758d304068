"""What trials may cost, in words."""

from collections.abc import Sequence

from mimic_reg.progress import format_seconds


def at_most(seconds: Sequence[float | None], *, may_stop: bool) -> str:
    """Return sentences on the time of trials, each and in all.

    seconds:  of each trial at most, on one CPU core; None: nobody measured such steps
    may_stop: whether any of them has early stopping
    """
    known = [each for each in seconds if each is not None]
    if not known:
        return "Time unknown: it has not been measured for these settings."
    in_all = " in all" if len(seconds) > 1 else ""
    text = f"At most about {format_seconds(sum(known))} of one CPU core{in_all}"
    if len(known) > 1:
        least, most = format_seconds(min(known)), format_seconds(max(known))
        text += f", {least} each" if least == most else f", {least} to {most} each"
    if unknown := len(seconds) - len(known):
        text += f"; the time of {unknown:,} more is unknown"
    stops = " Early stopping usually shortens it." if may_stop else ""
    return f"{text}.{stops}"
