"""A probe on the residual that steers: a logistic regression (scikit-learn) tells from the
residual behind one layer whether the text is about something, and while it is, experts are
biased. train.py makes the probe of residuals and labels."""

import os

import joblib
import numpy as np
import sklearn.linear_model  # noqa: F401: loaded with the program, not with the first answer

from roundhouse_plugin import Fault, Plugin, serve


class Probe(Plugin):
    name, version = "probe", "1.0"
    description = "steers experts while a probe on the residual says so"
    parameters = {
        "probe": {"type": "string", "default": "probe.joblib", "description": "file in the plugin's folder that train.py wrote"},
        "layer": {"type": "integer", "default": 3, "minimum": 0, "description": "whose residual the probe was trained on"},
        "limit": {"type": "number", "default": 0.5, "minimum": 0, "maximum": 1, "description": "probability from which on to steer"},
        "steered": {"type": "integer", "default": 4, "minimum": 0, "description": "layer whose experts are biased"},
        "expert": {"type": "integer", "default": 0, "minimum": 0},
        "bias": {"type": "number", "default": -4},
    }
    loaded = {}  # probes by path: they are the same for every answer

    def begin(self):
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.path.basename(self.params["probe"]))
        if path not in self.loaded:
            if not os.path.exists(path):
                raise Fault("bad_value", f"there is no probe at {path}: train.py makes one")
            self.loaded[path] = joblib.load(path)
        self.model_of = self.loaded[path]
        if self.model_of.n_features_in_ != self.model.hidden:
            raise Fault("bad_value", f"the probe is of {self.model_of.n_features_in_} values, and the residual has {self.model.hidden}")
        self.hidden_layers = [self.params["layer"]]

    def hidden(self, h):
        p = float(self.model_of.predict_proba(np.asarray(h.values).reshape(1, -1))[0, 1])
        self.emit("probability", p)
        layer = self.steer.layer(self.params["steered"])
        layer.bias(self.params["expert"], self.params["bias"] if p >= self.params["limit"] else 0)


if __name__ == "__main__":
    serve(Probe)
