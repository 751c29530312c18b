"""A blind comparison of two methods by people: what they see, and what they say."""
