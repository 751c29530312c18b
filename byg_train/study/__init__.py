"""A blind comparison of two methods by human raters."""
