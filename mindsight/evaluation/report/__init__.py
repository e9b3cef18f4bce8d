"""What was measured, as a table and as a page, beside published figures."""
