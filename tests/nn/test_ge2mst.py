"""The Ge2mS-T networks: parameters, input sizes, event frames, gradients, export."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import snnc
from snnc.errors import UsageError
from snnc.models import SIZES, Architecture, Ge2mST, ge2mst
from snnc.nn import ExpG, float_activation, reestimate_batch_norm

TINY = {
    "widths": (4, 4, 8, 8, 8),
    "depths": (1, 1, 1, 1),
    "heads": (2, 2, 2),
    "chunks": (2, 2, 1),
    "stem_kernel": 3,
    "stem_stride": 1,
    "strides": (1, 2, 1, 2),
    "classes": 5,
}


def tiny(**choices):
    torch.manual_seed(0)
    return ge2mst("small", **TINY | choices)


def parameters(network):
    return sum(part.numel() for part in network.parameters())


@pytest.mark.parametrize(("size", "millions"), [("small", 5.35), ("base", 9.36), ("large", 14.48)])
def test_parameters_match_the_paper(size, millions):
    with torch.device("meta"):
        network = ge2mst(size)
    assert abs(parameters(network) / 1e6 - millions) < 0.01
    assert network.architecture == SIZES[size]


@pytest.mark.parametrize(
    ("choice", "difference"),
    [({"depthwise_norm": True}, 10_752), ({"last_branch": False}, -5_280), ({"branch_norm": False}, -3_648)],
)
def test_open_choices_change_what_they_name(choice, difference):
    with torch.device("meta"):
        assert parameters(ge2mst("small", **choice)) - parameters(ge2mst("small")) == difference


@pytest.mark.parametrize("side", [224, 288])
def test_groups_have_equal_size_at_the_papers_inputs(side):
    with torch.device("meta"):
        network = ge2mst("small", activation=float_activation).eval()
        shapes = []
        for part in network.modules():
            for scores in getattr(part, "scores", ()):
                scores.register_forward_hook(lambda module, x, y: shapes.append(tuple(y.shape[1:])))
        assert network(torch.zeros(1, 3, side, side)).shape == (1, 1000)
    tokens = (side // 32) ** 2
    # groups x heads x tokens x tokens: 49 tokens a group at 224, whatever the stage
    wanted = [(16, 2), (16, 2)] * 2 + [(4, 4), (4, 4)] * 6 + [(1, 8)] * 2
    assert shapes == [(*each, tokens, tokens) for each in wanted]


@pytest.mark.parametrize("side", [28, 32])
def test_small_images_and_other_classes(side):
    with torch.device("meta"):
        network = ge2mst("small", classes=10, channels=1, activation=float_activation)
        assert network(torch.zeros(2, 1, side, side)).shape == (2, 10)


def test_input_sizes_that_do_not_divide_are_refused():
    network = ge2mst("small", activation=float_activation)
    assert network.architecture.reduction == 32
    with pytest.raises(UsageError, match="SNN216"):
        network(torch.zeros(2, 3, 80, 80))


def test_unknown_sizes_and_choices_are_refused():
    with pytest.raises(UsageError, match=r"SNN217.*'huge'"):
        ge2mst("huge")
    with pytest.raises(UsageError, match=r"SNN217.*width") as caught:
        ge2mst("small", width=3)
    assert "widths" in str(caught.value.hint)
    with pytest.raises(UsageError, match=r"SNN217.*depths"):
        ge2mst("small", depths=(1, 2))
    with pytest.raises(UsageError, match="SNN20"):
        ge2mst("small", timesteps=2, groups=4)


@pytest.mark.parametrize(
    "choice",
    [
        {"widths": 8},
        {"heads": (2.0, 2, 2)},
        {"dilated_heads": 1},
        {"events": (0, 2)},
        {"classes": "ten"},
        {"stem_kernel": 4},
        {"stem_stride": 0},
        {"depthwise_kernel": 2},
        {"feed_forward_ratio": 0},
        {"score_scale": "none"},
        {"branch_norm": "no"},
    ],
)
def test_choices_out_of_range_are_refused(choice):
    with pytest.raises(UsageError, match=f"SNN217.*{next(iter(choice))}"):
        tiny(**choice)


def test_event_frames_are_merged():
    network = tiny(events=(3, 2), channels=4).train()
    frames = torch.rand(4, 3, 2, 8, 8)
    assert network(frames).shape == (4, 5)
    assert network.merge.merge[0].in_channels == 6
    changed = frames.clone()
    changed[:, 2, 1] += 1
    assert not torch.equal(network.merge(frames), network.merge(changed))
    for wrong in (frames[:, :2], frames.flatten(1, 2)):
        with pytest.raises(UsageError, match=r"SNN217.*3, 2"):
            network(wrong)


def test_gradients_reach_every_parameter():
    network = tiny()
    network(torch.rand(16, 3, 16, 16)).logsumexp(1).sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_attention_may_have_a_code_of_its_own():
    network = tiny(attention_timesteps=6, attention_groups=1)
    books = Counter(
        (part.book.timesteps, part.book.groups) for part in network.modules() if isinstance(part, ExpG)
    )
    assert books[6, 1] == 5  # two groupings in stages 2 and 3, one in stage 4


def test_every_neuron_reads_a_membrane_and_every_synapse_spikes():
    """Between stem and head no convolution reads anything but what a neuron sent."""
    network = tiny().eval()
    seen = {}
    for part in network.modules():
        if isinstance(part, ExpG):
            part.register_forward_hook(lambda module, x, y: seen.setdefault(y.data_ptr(), y))
    held = []
    for name, part in network.named_modules():
        if isinstance(part, torch.nn.Conv2d) and name != "stem.0":
            part.register_forward_hook(lambda module, x, y: held.append(x[0].data_ptr() in seen))
    with torch.no_grad():
        network(torch.rand(2, 3, 16, 16))
    assert held and all(held)


@pytest.fixture(scope="module", params=["torchscript", pytest.param("dynamo", marks=pytest.mark.slow)])
def exported(request, tmp_path_factory):
    network = tiny(weight_bits=8, depths=(0, 1, 0, 0))
    generator = torch.Generator().manual_seed(1)
    reestimate_batch_norm(network, [torch.rand(16, 3, 16, 16, generator=generator)])
    path = tmp_path_factory.mktemp(request.param) / "net.onnx"
    snnc.export(network, torch.zeros(1, 3, 16, 16), path, exporter=request.param)
    return network.eval(), path


def test_exported_file_computes_the_same(exported):
    network, path = exported
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    (found,) = session.run(["logits"], {"x": x.numpy()})
    with torch.no_grad():
        wanted = network(x).numpy()
    # A membrane at a break point may fall on its other side; most images have none.
    same = np.isclose(found, wanted, atol=1e-5).all(1)
    assert same.mean() > 0.5


def test_exported_groups_are_real(exported):
    network, path = exported
    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    ops = Counter(node.op_type for node in model.graph.node)
    quantisers = sum(isinstance(part, ExpG) for part in network.modules())
    assert ops["Quantise"] == quantisers
    assert not set(ops) & {"Where", "Einsum", "ScatterND", "GatherND", "Softmax"}
    products = 2 * sum(len(part.parts) for part in network.modules() if hasattr(part, "parts"))
    assert ops["MatMul"] == products
    session = onnxruntime.InferenceSession(tapped(path), providers=["CPUExecutionProvider"])
    results = session.run(None, {"x": np.zeros((2, 3, 16, 16), np.float32)})
    shapes = [array.shape for array in results if array.ndim == 5]
    # Stage 2: an 8 x 8 map in four groups of 16 tokens; a dense product would have 64 x 64.
    assert shapes[0] == (2, 4, 1, 16, 16)
    assert max(shape[-1] for shape in shapes) == 16


def tapped(path):
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "MatMul":
            model.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], 1, None))
    return model.SerializeToString()


def test_exporter_must_exist(tmp_path):
    with pytest.raises(UsageError, match=r"SNN211.*'onnxscript'"):
        snnc.export(torch.nn.Linear(1, 1), torch.zeros(1, 1), tmp_path / "x.onnx", exporter="onnxscript")


def test_architecture_is_kept_by_the_network():
    network = Ge2mST(Architecture(**TINY))
    assert network.architecture.classes == 5 and network.architecture.strides == (1, 2, 1, 2)
