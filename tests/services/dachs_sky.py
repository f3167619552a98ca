"""Makes the sky of dachs.rd up, always the same: usage `dachs_sky.py FOLDER`."""

import random
import sys
from pathlib import Path

folder = Path(sys.argv[1])
random.seed(20)
# The field of the query sets: right ascension 52 to 72, declination -44 to -28.
with (folder / "stars.csv").open("w") as stars:
    stars.write("star,ra,dec,mag,name\n")
    for star in range(4000):
        ra, dec = random.uniform(52, 72), random.uniform(-44, -28)
        stars.write(f"{star},{ra:.6f},{dec:.6f},{random.uniform(15, 25):.3f},S-{star}\n")
with (folder / "images.csv").open("w") as images:
    images.write("image,ra,dec,mjd\n")
    for image in range(150):
        ra, dec = random.uniform(52, 72), random.uniform(-44, -28)
        # Within the times that the query set asks for.
        images.write(f"i{image},{ra:.6f},{dec:.6f},60550.3181\n")
