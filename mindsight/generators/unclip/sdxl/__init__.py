"""unCLIP on SDXL: image tokens → picture, and SDXL's base for refinement. ``load_unclip`` is in ``loading``."""
