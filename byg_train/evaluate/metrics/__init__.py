"""The metrics: a file each, with its formula, range and source, and its record `METRIC`."""
