"""The nouns of pipelines: what was registered, what runs, and the values that travel between steps."""
