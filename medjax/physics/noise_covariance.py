"""Noise of receive channels, from a scan without signal."""


def noise_covariance(noise, bandwidth_ratio=1.0):
    r"""Covariance between channels of complex noise of mean zero.

    .. math::
        \Psi = \frac{\rho}{n} \sum_{j=1}^{n} \eta_j \eta_j^H

    Args:
      noise: `[c, ...]` complex, the samples of a noise scan; n = number of samples a channel, at least c.
      bandwidth_ratio: rho > 0, the noise bandwidth of the imaging scan over that of the noise scan: noise variance grows with bandwidth.

    Returns:
      `[c, c]`, Hermitian: E[eta eta^H], so a channel of standard deviation sigma in each of real and imaginary part has 2 sigma^2 on the diagonal.

    Raises:
      ValueError: when there are fewer samples than channels, for then the covariance is singular.

    Reference:
      Pruessmann et al. (1999), SENSE, https://doi.org/10.1002/(SICI)1522-2594(199911)42:5<952::AID-MRM16>3.0.CO;2-S, for the matrix Psi; Kellman &
      McVeigh (2005), Image reconstruction in SNR units, https://doi.org/10.1002/mrm.20713, for the bandwidth.
    """
    channels = noise.shape[0]
    samples = noise.reshape(channels, -1)
    if samples.shape[1] < channels:
        raise ValueError(f"noise_covariance needs at least as many samples as channels, got {samples.shape[1]} samples of {channels} channels")
    return (bandwidth_ratio / samples.shape[1]) * (samples @ samples.conj().T)
