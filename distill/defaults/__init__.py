"""The recipes of the models that come with EdgeBERT, and the command that makes them again."""
