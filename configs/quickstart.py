"""The embedded model on bank logs: four strategies at four lengths.

python -m tttjax.main --config=configs/quickstart.py        # without --config it is this one too

Three minutes on two cores, most of it compilation. Expected accuracy by length: in_context
.99, .96, .86, .70; qttt and its control within .04 of it; thinking .99, .96, .72, .00.
"""

# Part of the package, so that a program installed without this file runs it too.
from tttjax.experiment.quickstart import get_config
