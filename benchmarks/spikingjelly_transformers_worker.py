"""The SpikingJelly side of the comparison of transformers: runs in an environment of its own.

    python spikingjelly_transformers_worker.py WORK.json

``WORK.json`` names a network (``kind``, its measures, an ``.npz`` of weights), an ``.npz`` of inputs, the
recipe and the numbers of time-steps. The answer is one document in JSON on stdout. Nothing of snnc is
imported here.
"""

from __future__ import annotations

import importlib.metadata
import json
import operator
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import ann2snn, functional
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 50


class Packed(nn.Module):
    """Attention by torch's own module, which SpikingJelly's recipes know; heads * size must be the width."""

    def __init__(self, width: int, heads: int, size: int, length: int) -> None:
        super().__init__()
        self.packed = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens to tokens."""
        mixed, _ = self.packed(x, x, x, need_weights=False)
        return mixed

    def load(self, qkv: Tensor, bias: Tensor, out: Tensor, out_bias: Tensor) -> None:
        """Take the weights."""
        self.packed.in_proj_weight.data.copy_(qkv)
        self.packed.in_proj_bias.data.copy_(bias)
        self.packed.out_proj.weight.data.copy_(out)
        self.packed.out_proj.bias.data.copy_(out_bias)


class Written(nn.Module):
    """Attention as networks write it: one projection, heads of any size, softmax, two products."""

    fused = False

    def __init__(self, width: int, heads: int, size: int, length: int) -> None:
        super().__init__()
        self.heads, self.size, self.length = heads, size, length
        self.q, self.k, self.v = (nn.Linear(width, heads * size) for _ in range(3))
        self.out = nn.Linear(heads * size, width)

    def split(self, x: Tensor) -> Tensor:
        """Split channels into heads."""
        return x.reshape(-1, self.length, self.heads, self.size).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens to tokens."""
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            scores = torch.matmul(q * self.size**-0.5, k.transpose(-2, -1))
            mixed = torch.matmul(torch.softmax(scores, -1), v)
        mixed = mixed.transpose(1, 2).reshape(-1, self.length, self.heads * self.size)
        tokens: Tensor = self.out(mixed)
        return tokens

    def load(self, qkv: Tensor, bias: Tensor, out: Tensor, out_bias: Tensor) -> None:
        """Take the weights."""
        for layer, weight, offset in zip((self.q, self.k, self.v), qkv.chunk(3), bias.chunk(3), strict=True):
            layer.weight.data.copy_(weight)
            layer.bias.data.copy_(offset)
        self.out.weight.data.copy_(out)
        self.out.bias.data.copy_(out_bias)


class Fused(Written):
    """The same with torch's scaled_dot_product_attention."""

    fused = True


FORMS = {"nn.MultiheadAttention": Packed, "scaled_dot_product_attention": Fused, "written out": Written}


class Block(nn.Module):
    """Attention and a feed-forward pair, each behind a LayerNorm."""

    def __init__(self, attention: nn.Module, width: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), attention, nn.LayerNorm(width)
        self.first, self.activation, self.second = (
            nn.Linear(width, hidden),
            activation,
            nn.Linear(hidden, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map the stream to the stream."""
        x = x + self.attention(self.norm1(x))
        stream: Tensor = x + self.second(self.activation(self.first(self.norm2(x))))
        return stream


class Transformer(nn.Module):
    """A vision transformer, with or without a class token."""

    def __init__(self, measures: dict[str, Any], form: Callable[..., Any]) -> None:
        super().__init__()
        width, hidden, heads = measures["width"], measures["hidden"], measures["heads"]
        self.has_token = measures["class_token"]
        self.embed = nn.Conv2d(measures["colours"], width, measures["patch"], measures["patch"])
        if self.has_token:
            self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, measures["length"], width))
        self.blocks = nn.ModuleList(
            Block(
                form(width, heads, measures["size"], measures["length"]),
                width,
                hidden,
                nn.GELU() if measures["activation"] == "gelu" else nn.ReLU(),
            )
            for _ in range(measures["depth"])
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, measures["classes"])

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        x = self.embed(x).flatten(2).transpose(1, 2)
        if self.has_token:
            x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1)
        x = x + self.position
        for block in self.blocks:
            x = block(x)
        # The norm acts on each token, so it may stand before or after the class token is taken.
        x = self.norm(x)
        logits: Tensor = self.head(x[:, 0] if self.has_token else x.mean(1))
        return logits

    def load(self, arrays: dict[str, Tensor]) -> None:
        """Take the weights of all layers."""
        with torch.no_grad():
            for index, block in enumerate(self.blocks):
                part = {
                    name.split("/")[1]: value
                    for name, value in arrays.items()
                    if name.startswith(f"{index}/")
                }
                block.attention.load(part["qkv"], part["qkv_bias"], part["out"], part["out_bias"])
                for name in ("norm1", "norm2", "first", "second"):
                    getattr(block, name).weight.copy_(part[name])
                    getattr(block, name).bias.copy_(part[f"{name}_bias"])
            for name in ("embed", "norm", "head"):
                getattr(self, name).weight.copy_(arrays[name])
                getattr(self, name).bias.copy_(arrays[f"{name}_bias"])
            for layer in self.modules():
                if isinstance(layer, nn.LayerNorm) and "epsilon" in arrays:
                    layer.eps = float(arrays["epsilon"])
            self.position.copy_(arrays["position"])
            if self.has_token:
                self.token.copy_(arrays["token"])


def _even(node: dict[str, Any]) -> tuple[int, ...] | None:
    """Return what a window pads on both sides of each axis; None if the sides differ."""
    pads = node.get("pads") or [0] * 4
    half = len(pads) // 2
    return tuple(pads[:half]) if pads[:half] == pads[half:] else None


def _convolution(node: dict[str, Any], weight: Tensor, bias: Tensor) -> nn.Module:
    outputs, inputs, *kernel = weight.shape
    group, padding = node.get("group", 1), _even(node)
    strides, dilations = node.get("strides", [1, 1]), node.get("dilations", [1, 1])
    conv = nn.Conv2d(inputs * group, outputs, kernel, strides, padding or 0, dilations, group)
    conv.weight.data, conv.bias.data = weight, bias
    if padding is not None:
        return conv
    # torch's convolution pads both sides alike.
    top, left, bottom, right = node["pads"]
    return nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), conv)


class Chain(nn.Module):
    """A network from its nodes: modules where torch has them, else functions."""

    FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
        "Identity": lambda node, x: x,
        "Add": lambda node, x, y: x + y,
        "Mul": lambda node, x, *y: x * (y[0] if y else _scalar(node["constants"][0])),
        "MatMul": lambda node, x, y: torch.matmul(x, y),
        # The same in operators that recipes for ReLU take; ``inner`` is the extent summed over.
        "Products": lambda node, x, y: (
            (x.unsqueeze(-2) * y.transpose(-1, -2).unsqueeze(-3)).mean(-1) * float(node["inner"])
        ),
        "Concat": lambda node, *parts: torch.cat(parts, node["axis"]),
        "Transpose": lambda node, x: x.permute(node["perm"]),
        "Reshape": lambda node, x: torch.reshape(x, node["constants"][0]),
        "Slice": lambda node, x: operator.getitem(x, _part(*(each[0] for each in node["constants"]))),
    }

    def __init__(self, nodes: list[dict[str, Any]], arrays: dict[str, Tensor]) -> None:
        super().__init__()
        self.nodes, self.layers = [], nn.ModuleDict()
        for index, node in enumerate(nodes):
            weights = [arrays[name] for name in node["weights"]]
            if node["op"] in self.FUNCTIONS:
                self.nodes.append({**node, "constants": [array.tolist() for array in weights]})
                continue
            self.nodes.append(node)
            self.layers[str(index)] = self._layer(node, weights)

    @staticmethod
    def _layer(node: dict[str, Any], parts: list[Tensor]) -> nn.Module:
        if node["op"] == "Conv":
            return _convolution(node, parts[0], parts[1] if parts[1:] else torch.zeros(len(parts[0])))
        if node["op"] == "BatchNormalization":
            norm = nn.BatchNorm2d(len(parts[0]), eps=node["epsilon"])
            norm.weight.data, norm.bias.data = parts[0], parts[1]
            norm.running_mean, norm.running_var = parts[2], parts[3]
            return norm
        if node["op"] == "Gemm":
            linear = nn.Linear(*reversed(parts[0].shape))
            linear.weight.data, linear.bias.data = parts[0], parts[1]
            return linear
        if node["op"] in {"AveragePool", "MaxPool"}:
            kind = nn.AvgPool2d if node["op"] == "AveragePool" else nn.MaxPool2d
            padding = _even(node)
            if padding is None or node.get("ceil_mode"):
                raise ValueError(f"{node['op']} with margins that torch does not have")
            return kind(tuple(node["kernel_shape"]), tuple(node["strides"]), padding)
        if node["op"] == "GlobalAveragePool":
            return nn.AdaptiveAvgPool2d(1)
        return {"Relu": nn.ReLU, "Flatten": nn.Flatten}[node["op"]]()

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        values = {"": x}
        for index, node in enumerate(self.nodes):
            read = [values[name] for name in node["inputs"]]
            if node["op"] in self.FUNCTIONS:
                values[node["output"]] = self.FUNCTIONS[node["op"]](node, *read)
            else:
                values[node["output"]] = self.layers[str(index)](read[0])
        return values[self.nodes[-1]["output"]]


def _scalar(number: Any) -> float:
    """Return a number in brackets without them; more than one is no scalar."""
    while isinstance(number, list):
        (number,) = number
    return float(number)


def _part(start: int, end: int, axis: int, step: int) -> tuple[slice, ...]:
    return (*[slice(None)] * axis, slice(start, end, step))


def networks(work: dict[str, Any]) -> dict[str, nn.Module]:
    """Return the float network in every form in which it can be written, by name of the form."""
    arrays = {name: torch.from_numpy(array) for name, array in np.load(work["weights"]).items()}
    if work["kind"] == "chain":
        forms = {"as it is": work["nodes"]}
        if any("inner" in node for node in work["nodes"]):
            forms["products and means"] = [
                {**node, "op": "Products"} if "inner" in node else node for node in work["nodes"]
            ]
        return {name: Chain(nodes, arrays).eval() for name, nodes in forms.items()}
    made: dict[str, nn.Module] = {}
    measures = work["measures"]
    for name, form in FORMS.items():
        if form is Packed and measures["heads"] * measures["size"] != measures["width"]:
            continue
        network = Transformer(measures, form)
        network.load(arrays)
        made[name] = network.eval()
    return made


def recipe(name: str, steps: int, batches: list[Tensor]) -> Any:
    """Return a converter with one of SpikingJelly's recipes for transformers, calibrated on some batches."""
    if name == "STA, equivalent":
        return ann2snn.Converter(ann2snn.STATransformerRecipe(time_steps=steps))
    if name == "STA, spiking encoder":
        made = ann2snn.STATransformerRecipe(batches, time_steps=steps, mode="spiking_encoder")
        return ann2snn.Converter(made)
    if name == "TD-equivalent":
        return ann2snn.Converter(ann2snn.TransformerTDEquivalentRecipe(time_steps=steps))
    made = ann2snn.SpikeZIPTFQANNRecipe(time_steps=steps, model_family="vit")
    return ann2snn.ModuleConverter(made)


@torch.no_grad()
def present(network: nn.Module, part: Tensor, steps: int) -> Tensor:
    """Present images at the first step and nothing afterwards; return the sum of the outputs of all steps."""
    functional.reset_net(network)
    total: Tensor = network(part)
    for _ in range(steps - 1):
        total = total + network(torch.zeros_like(part))
    return total


@torch.no_grad()
def judge(network: nn.Module, images: Tensor, labels: Tensor, steps: int) -> dict[str, float]:
    """Present each image at the first step and nothing afterwards; sum the outputs of all steps.

    Returns:
        Accuracy in percent.
    """
    functional.set_step_mode(network, "s")
    right = 0
    for part, truth in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        right += int((present(network, part, steps).argmax(1) == truth).sum())
    return {"accuracy": 100 * right / len(labels)}


def reason(error: Exception) -> str:
    """Return what an error says in one line, without addresses in memory."""
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"


def main() -> int:
    """Answer one request."""
    torch.set_num_threads(1)
    work = json.loads(Path(sys.argv[1]).read_text())
    data = {name: torch.from_numpy(array) for name, array in np.load(work["data"]).items()}
    images, labels = data["images"], data["labels"]
    forms = networks(work)
    answer: dict[str, Any] = {"versions": {}, "float": {}, "rows": [], "refused": []}
    for name in ("spikingjelly", "torch", "numpy"):
        answer["versions"][name] = importlib.metadata.version(name)
    with torch.no_grad():
        for form, network in forms.items():
            logits = torch.cat([network(part) for part in images.split(BATCH)])
            answer["float"][form] = 100 * float((logits.argmax(1) == labels).float().mean())
            answer["logits"] = logits[:20].tolist()
    for form, network in forms.items():
        try:
            for steps in work["steps"]:
                made = recipe(work["recipe"], steps, list(data["calibration"].split(BATCH)))
                converted = made.convert(network).eval()
                row = judge(converted, images, labels, steps)
                answer["rows"].append({"form": form, "steps": steps, **row})
                print(work["recipe"], form, steps, row, file=sys.stderr, flush=True)
            break
        except Exception as error:  # noqa: BLE001  whatever it says is the result
            answer["rows"] = []
            answer["refused"].append({"form": form, "message": reason(error)})
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
