"""A RunPod serverless handler: sentence similarity with all-MiniLM-L6-v2. Nothing in it knows of Roost.

The weights live on the network volume, put there through S3.
"""

import os
import pathlib
import time

import runpod

VOLUME = pathlib.Path("/runpod-volume")
MODEL = VOLUME / "models" / "all-MiniLM-L6-v2"
encoder = None


class Encoder:
    """The six layers of MiniLM in numpy: enough for a handful of sentences, with no framework to load."""

    def __init__(self, folder):
        import json

        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        config = json.loads((folder / "config.json").read_text())
        self.layers, self.heads = config["num_hidden_layers"], config["num_attention_heads"]
        self.weights = {name.removeprefix("bert."): value for name, value in load_file(folder / "model.safetensors").items()}
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()

    def linear(self, name, x):
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def norm(self, name, x):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / (centred.var(-1, keepdims=True) + 1e-12) ** 0.5
        return scaled * self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def attention(self, layer, x):
        import numpy as np

        def split(name):
            return self.linear(f"{layer}.attention.self.{name}", x).reshape(len(x), self.heads, -1).swapaxes(0, 1)

        query, key, value = split("query"), split("key"), split("value")
        scores = query @ key.swapaxes(1, 2) / query.shape[-1] ** 0.5
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ value
        return self.linear(f"{layer}.attention.output.dense", mixed.swapaxes(0, 1).reshape(len(x), -1))

    def embed(self, sentence):
        import numpy as np

        ids = self.tokenizer.encode(sentence).ids[:256]
        tables = {name: self.weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")}
        x = tables["word"][ids] + tables["position"][: len(ids)] + tables["token_type"][0]
        x = self.norm("embeddings.LayerNorm", x)
        for number in range(self.layers):
            layer = f"encoder.layer.{number}"
            x = self.norm(f"{layer}.attention.output.LayerNorm", x + self.attention(layer, x))
            inner = self.linear(f"{layer}.intermediate.dense", x)
            # GELU by the usual tanh approximation; it differs by less than 0.001.
            inner = 0.5 * inner * (1 + np.tanh(0.7978845608 * (inner + 0.044715 * inner**3)))
            x = self.norm(f"{layer}.output.LayerNorm", x + self.linear(f"{layer}.output.dense", inner))
        mean = x.mean(0)
        return mean / (mean @ mean) ** 0.5


def handler(job):
    global encoder
    given = job["input"]
    if not MODEL.exists():
        return {"error": f"{MODEL} is not there: copy the model to the volume first"}
    begin = time.time()
    loaded = encoder is None
    if loaded:
        encoder = Encoder(MODEL)
    ready = time.time()
    query = encoder.embed(given["query"])
    scores = [float(query @ encoder.embed(sentence)) for sentence in given["sentences"]]
    return {
        "scores": scores,
        "model_loaded": loaded,
        "load_ms": round((ready - begin) * 1000),
        "inference_ms": round((time.time() - ready) * 1000),
        "worker": os.environ["RUNPOD_POD_ID"],
    }


runpod.serverless.start({"handler": handler})
