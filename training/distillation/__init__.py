"""A student of few steps from a teacher of many: latent consistency distillation of an unCLIP on image tokens."""
