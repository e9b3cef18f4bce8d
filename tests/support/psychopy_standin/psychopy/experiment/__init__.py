"""What a Builder component is written against."""
