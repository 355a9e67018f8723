"""Use trained models, and read results, from Python.

`load` returns a model of a home, or of a SavedModel's folder. It takes and returns arrays of grey values:

>>> import latentline
>>> model = latentline.load(home, "cvae")
>>> images = model.sample(3, seed=1)
>>> images.shape, images.dtype
((3, 28, 28), dtype('uint8'))
>>> model.encode(images).shape
(3, 2)
>>> model.decode([[0.0, 0.0]]).shape
(1, 28, 28)
>>> model.log_likelihood(model.reconstruct(images), samples=4).shape
(3,)
>>> latentline.load(home, "mlp").classify(images).labels.shape
(3,)

`results` reads the newest report of a home into tables:

>>> found = latentline.results(home)
>>> found.leaderboard.loc["mlp", "status"]
'pushed'
>>> sorted(found.curves.query("variant == 'mlp'").term.unique())
['accuracy', 'loss']
"""

from latentline.model import Classification, Model, ModelError, load
from latentline.results import Results, ResultsError, results

__all__ = ["Classification", "Model", "ModelError", "Results", "ResultsError", "load", "results"]
