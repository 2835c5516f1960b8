"""From images to cutouts a model can see: noise, clipping, subtraction, cutouts, scaling, augmentation."""
