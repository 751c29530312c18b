"""One file for each command: its options, once, and what it prints; `app` names them all."""
