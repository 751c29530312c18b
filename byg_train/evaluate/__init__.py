"""Metrics of editing, benchmarks, and statistics of user studies."""
