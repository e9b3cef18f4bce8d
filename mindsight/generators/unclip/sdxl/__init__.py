"""unCLIP on SDXL: image tokens → image, and SDXL's base for refinement. ``load_unclip`` is in ``loading``."""
