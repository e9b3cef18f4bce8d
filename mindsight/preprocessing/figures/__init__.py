"""Pictures for the operator: where the head is, where the response is."""
