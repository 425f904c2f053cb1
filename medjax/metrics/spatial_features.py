"""Features that keep their place."""


def spatial_features(maps, num_channels: int = 7):
    """Feature maps as one feature vector an image, for `frechet_distance` and its like: what stands where counts, which pooled features do not tell.

    Args:
      maps: `[n, h, w, c]`, of a layer in the middle of a network.
      num_channels: the first of the c that are kept, so that there are not more features than images can fit a covariance to.

    Returns:
      `[n, h * w * num_channels]`.

    Raises:
      ValueError: where maps have another rank or fewer channels.

    Reference:
      Nash et al. (2021), https://arxiv.org/abs/2103.03841: the first 7 channels of a 17 x 17 layer of Inception, 2023 features, about as
      many as the 2048 pooled ones. Channels of a network have no order: values of two trainings do not compare.
    """
    if len(maps.shape) != 4 or not 1 <= num_channels <= maps.shape[3]:
        raise ValueError(f"maps are {list(maps.shape)}, [n, h, w, c] with c of at least {num_channels} is needed")
    return maps[..., :num_channels].reshape(len(maps), -1)
