"""Images for the operator: the head's registration, and the response on the brain."""
