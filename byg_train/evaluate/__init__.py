"""Measures of editing."""
