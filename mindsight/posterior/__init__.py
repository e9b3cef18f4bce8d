"""What decoded features say of the image that was seen: one of the candidates, or none of them."""
