"""Training the classifier that chooses which tools a request is offered."""
