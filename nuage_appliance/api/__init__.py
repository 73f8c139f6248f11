"""Where calls and events come in; thin."""
