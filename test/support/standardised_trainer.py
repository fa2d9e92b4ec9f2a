"""The trainer's command with images standardised one by one, as a user's own transform may do it.

An image of one colour has no spread, so its pixels become NaN: bad numbers that come in through the data. Started as
``python standardised_trainer.py FLAGS`` in place of ``python -m training.main FLAGS``.
"""

import open_clip
from open_clip.transform import Compose
from training import main


class Standardise:
    """Give each channel of an image mean 0 and spread 1."""

    def __call__(self, image):
        return (image - image.mean((1, 2), keepdim=True)) / image.std((1, 2), keepdim=True)


def standardise_training(create):
    """Add the step to what the trainer trains on."""

    def create_and_add(*args, **kwargs):
        model, train, val = create(*args, **kwargs)
        return model, Compose([*train.transforms, Standardise()]), val

    return create_and_add


if __name__ == "__main__":
    open_clip.create_model_and_transforms = standardise_training(open_clip.create_model_and_transforms)
    main._leave(main.main())
