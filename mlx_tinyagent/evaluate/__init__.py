"""How good a plan is: metrics, intervals and tests; knows no model and runs no tool."""
