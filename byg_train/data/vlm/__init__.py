"""Training tuples from a vision-language model, as in appendix D of the paper."""
