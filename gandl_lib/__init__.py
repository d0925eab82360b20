"""GAN-DL, executable: StyleGAN2 discriminator features as embeddings of fluorescence microscopy."""

import os

__version__ = "0.1.0"

# PyTorch's threads spin while they wait for each other, unless this is set before torch is first imported. With another
# busy process on the same cores they spin against it, and both crawl (benchmarks/README.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
