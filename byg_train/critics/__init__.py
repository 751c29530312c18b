"""Critics: what is asked about an edit, and the networks that answer."""
