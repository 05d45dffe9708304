"""The Python form: see twin.go."""

import math

from roundhouse_plugin import Plugin, serve


class Twin(Plugin):
    name, version = "twin", "1.0"
    parameters = {"lag": {"type": "integer", "default": 2}}

    def begin(self):
        self.lag = int(self.params["lag"])
        self.last = []

    def logits(self, l, at):
        l.ban([7, 300] if at.position % 3 == 0 else [265])

    def sample(self, c, at):
        best, weights = c.logprobs[0], []
        for logprob in c.logprobs[:20]:
            w = math.exp(logprob - best)
            if w < 0.1:
                break
            weights.append(w)
        u = self.random() * sum(weights)
        for id, w in zip(c.ids, weights):
            u -= w
            if u < 0:
                return id
        return c.ids[len(weights) - 1]

    def routing(self, r):
        self.last = [*self.last, r.ids(3)][-8:]
        counts = [0] * self.model.experts
        for ids in self.last:
            for id in ids:
                counts[id] += 1
        self.steer.layer(3).clear().ban(counts.index(max(counts)))


if __name__ == "__main__":
    serve(Twin)
