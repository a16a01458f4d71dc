"""Quantizing planners: calibrated on plans, judged on plans, published only if no worse."""
