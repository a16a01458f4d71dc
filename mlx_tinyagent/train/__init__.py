"""Fine-tuning on the machine that will plan: over the same prompt segments as serving."""
