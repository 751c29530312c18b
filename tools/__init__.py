"""Scripts for those who work on ByG; nothing here is installed or imported by it."""
