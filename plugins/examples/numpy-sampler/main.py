"""A sampler of one's own: the token is chosen here, of what the engine's sampler left, and
numpy does the arithmetic. The host calls ``sample`` with up to 256 candidates; what it
returns is drawn. Probabilities are flattened or sharpened by an exponent, tokens far less
likely than the best are left out (min-p), and the draw uses the request's own random
numbers: the same seed gives the same text."""

import numpy as np

from roundhouse_plugin import Plugin, serve


class NumpySampler(Plugin):
    name, version = "numpy-sampler", "1.0"
    description = "min-p and a temperature of its own, over what the sampler left"
    parameters = {
        "temperature": {"type": "number", "default": 0.8, "minimum": 0, "maximum": 5},
        "floor": {"type": "number", "default": 0.05, "minimum": 0, "maximum": 1, "description": "least share of the best token's probability"},
    }

    def sample(self, c, at):
        logprobs = np.asarray(c.logprobs, dtype=np.float64)
        with np.errstate(divide="ignore"):
            logprobs[logprobs < logprobs[0] + np.log(self.params["floor"])] = -np.inf
        if self.params["temperature"] == 0:
            return c.ids[0]
        weights = np.exp((logprobs - logprobs[0]) / self.params["temperature"])
        cumulative = np.cumsum(weights)
        return c.ids[int(np.searchsorted(cumulative, self.random() * cumulative[-1], side="right"))]


if __name__ == "__main__":
    serve(NumpySampler)
