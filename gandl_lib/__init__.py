"""GAN-DL, executable: StyleGAN2 discriminator features as embeddings of fluorescence microscopy."""

__version__ = "0.1.0"
