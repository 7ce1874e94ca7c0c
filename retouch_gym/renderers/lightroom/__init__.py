"""How recipes of the toolset ``lightroom`` become pixels: the specification, masks, geometry and compiled kernels.

Names, units and ranges are Lightroom's; the mathematics is this package's own and is written down in
``docs/lightroom.md``. `reference` is the specification; every other renderer agrees with it within 1/255.
"""
