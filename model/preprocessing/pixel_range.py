"""The range of pixel values that a network expects, as mean and standard deviation of its preprocessing."""

RANGES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # Keras' ResNet50, VGG16: 0..255 in the order blue, green, red, less ImageNet's means
    "caffe": ((103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255, 1 / 255, 1 / 255)),
}
"""Named ranges: mean and std of the three channels, for an image in [0, 1]."""

ALLOWED = f"LOW..HIGH such as 0..1, -1..1, 0..255, -1024..1024, or {', '.join(RANGES)}"


def normalisation(text: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation, one value per channel, that map an image in [0, 1] to a range.

    Parameters
    ----------
    text
        ``LOW..HIGH``, or one of `RANGES`, whose values are averaged for one channel.
    channels
        1 or 3.

    Raises
    ------
    ValueError
        The text is neither.
    """
    if text in RANGES:
        mean, std = RANGES[text]
        return (mean, std) if channels == 3 else ((round(sum(mean) / 3, 6),), (round(sum(std) / 3, 6),))
    low_text, dots, high_text = text.partition("..")
    try:
        low, high = float(low_text), float(high_text)
    except ValueError:
        low = high = 0.0
    if not dots or not -1e6 < low < high < 1e6:
        raise ValueError(f"range is {text!r}; allowed are {ALLOWED}")
    return (0.0 - low / (high - low),) * channels, (1 / (high - low),) * channels
