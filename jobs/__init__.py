"""The jobs that a recipe runs, and the `connote` command."""
