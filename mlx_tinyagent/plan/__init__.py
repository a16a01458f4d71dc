"""Plans: values, text, and the checks that make a plan runnable."""
