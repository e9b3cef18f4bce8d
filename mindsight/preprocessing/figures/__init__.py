"""Pictures for a person to judge: where the head is, where the response is."""
