"""The page: edits made, seen and taken back in a browser, and the same functions for programs."""
