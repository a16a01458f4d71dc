"""Acting on a plan: resolvers, the gate, the executor. Knows no model and no prompt."""
