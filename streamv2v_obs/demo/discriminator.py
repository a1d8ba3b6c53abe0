"""The critic of the second half of the UNet's training: latents of the teachers, or of the UNet?"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm


class Critic(nn.Module):
    """Judges each patch of a latent picture beside its source, given its style.

    An L1- or L2-trained model answers with the mean of all that its input leaves open, which is blur. The critic
    tells a mean from a real picture, so that noise has to decide (adversarial distillation: Sauer et al. 2023; in
    latent space: Sauer et al. 2024). Source (n, C, h, w), picture (n, C, h, w), styles (n) -> (n, 1, h/2, w/2).
    """

    def __init__(self, channels: int, styles: int, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            spectral_norm(nn.Conv2d(2 * channels, width, 3, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(2 * width, 2 * width, 3, padding=1)),
            nn.LeakyReLU(0.2),
        )
        self.real = spectral_norm(nn.Conv2d(2 * width, 1, 1))
        self.styles = nn.Embedding(styles, 2 * width)
        nn.init.normal_(self.styles.weight, std=0.02)

    def forward(self, source: Tensor, picture: Tensor, styles: Tensor) -> Tensor:
        features = self.layers(torch.cat([source, picture], 1))
        suits: Tensor = (features * self.styles(styles)[:, :, None, None]).sum(1, keepdim=True)
        judged: Tensor = self.real(features) + suits
        return judged


def critic_loss(real: Tensor, made: Tensor) -> Tensor:
    """Hinge: real above 1, made below -1."""
    loss: Tensor = functional.relu(1 - real).mean() + functional.relu(1 + made).mean()
    return loss


def balance(wanted: Tensor, adversarial: Tensor, last: Tensor, share: float) -> Tensor:
    """The factor that makes the adversarial gradient at the ``last`` weights ``share`` times the other one's."""
    (first,) = torch.autograd.grad(wanted, last, retain_graph=True)
    (second,) = torch.autograd.grad(adversarial, last, retain_graph=True)
    factor: Tensor = (share * first.norm() / (second.norm() + 1e-6)).clamp(max=10.0).detach()
    return factor
