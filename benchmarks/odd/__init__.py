"""Malformed and odd inputs by kind; `benchmarks/odd_inputs.py` tries them."""
