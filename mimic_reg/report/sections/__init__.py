"""The sections of a report, a module each: what was given becomes HTML."""
