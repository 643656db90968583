"""Small models of every kind, each with what its layer table should say, counted by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

IMAGE, VECTOR, TOKENS, SEQUENCE = (3, 8, 8), (5,), (6,), (6, 5)
VOCABULARY = 20


def conv(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def conv_norm(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs, kernel, bias=False, **options), nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """Additions by a function, by an operator and in place; a projection."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = conv_norm(3, 8), conv_norm(8, 8), conv_norm(8, 8)
        self.c, self.down = conv_norm(8, 12, stride=2), nn.Conv2d(8, 12, 1, stride=2)
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.relu(torch.add(self.a(x), x))
        x = F.relu(self.b(x) + x)
        y = self.c(x)
        y += self.down(x)
        return self.fc(F.relu(y).mean((2, 3)))


class Dense(nn.Module):
    """As DenseNet: batch norms in front of layers, whose outputs join the inputs."""

    def __init__(self):
        super().__init__()
        self.stem, self.fc = conv(3, 8, bias=False), nn.Linear(16, 4)
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels) for channels in (8, 12, 16)])
        self.convs = nn.ModuleList([conv(channels, 4, bias=False) for channels in (8, 12)])

    def forward(self, x):
        x = self.stem(x)
        for norm, layer in zip(self.norms, self.convs, strict=False):
            x = torch.cat([x, layer(F.relu(norm(x)))], 1)
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.norms[2](x)), 1).flatten(1))


class Inception(nn.Module):
    """Branches of several kernels, joined; dropout; an auxiliary head that runs in training only."""

    def __init__(self):
        super().__init__()
        self.stem, self.mid, self.fc, self.drop = conv_norm(3, 8), conv(18, 8), nn.Linear(8, 4), nn.Dropout(0.2)
        self.one, self.reduce, self.three = conv(8, 4, 1), conv(8, 4, 1), nn.Conv2d(4, 6, (1, 3), padding=(0, 1))
        self.five, self.pooled = conv(8, 4, 5), conv(8, 4, 1)
        self.aux = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(18, 4))

    def forward(self, x):
        x = F.relu(self.stem(x))
        branches = [
            self.one(x),
            self.three(F.relu(self.reduce(x))),
            self.five(x),
            self.pooled(F.avg_pool2d(x, 3, 1, 1)),
        ]
        x = torch.cat([F.relu(branch) for branch in branches], 1)
        aux = self.aux(x) if self.training else None
        x = self.fc(self.drop(F.relu(self.mid(x)).mean((2, 3))))
        return (x, aux) if self.training else x


class Depthwise(nn.Module):
    """As MobileNet and ShuffleNet: depthwise, pointwise and grouped convolutions, ReLU6, shuffled channels."""

    def __init__(self):
        super().__init__()
        self.stem, self.deep, self.point = conv_norm(3, 8), conv_norm(8, 8, groups=8), conv_norm(8, 12, 1)
        self.grouped, self.fc = conv_norm(12, 12, groups=3), nn.Linear(12, 4)

    def forward(self, x):
        x = self.point(F.relu6(self.deep(F.relu6(self.stem(x)))))
        x = F.relu6(self.grouped(x)).unflatten(1, (3, 4)).transpose(1, 2).flatten(1, 2)
        left, right = x.chunk(2, 1)
        return self.fc(torch.cat([right, left], 1).mean((2, 3)))


class SqueezeExcite(nn.Module):
    """A gate of two layers on the means, swish and hard-swish."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.squeeze, self.excite = conv(3, 8), conv(8, 8), conv(8, 4, 1), conv(4, 8, 1)
        self.point, self.fc = conv(8, 8, 1), nn.Linear(8, 4)

    def forward(self, x):
        x = F.silu(self.a(F.hardswish(self.stem(x))))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        return self.fc(F.relu(self.point(x * gate)).mean((2, 3)))


class Shared(nn.Module):
    """A block with a batch norm that is called twice."""

    def __init__(self):
        super().__init__()
        self.stem, self.mid, self.fc = conv(3, 8), conv(8, 8), nn.Linear(8, 4)
        self.block = nn.Sequential(*conv_norm(8, 8), nn.ReLU())

    def forward(self, x):
        x = self.block(F.relu(self.mid(self.block(F.relu(self.stem(x))))))
        return self.fc(x.mean((2, 3)))


class Tower(nn.Module):
    """A convolution with a bias on features of two sizes, as in detectors."""

    def __init__(self):
        super().__init__()
        self.stem, self.down, self.tower, self.fc = conv(3, 8), conv(8, 8), conv(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        large = F.relu(self.stem(x))
        small = F.relu(self.down(F.max_pool2d(large, 2)))
        return self.fc(F.relu(self.tower(large)).mean((2, 3)) + F.relu(self.tower(small)).mean((2, 3)))


class Functional(nn.Module):
    """Functions with weights of the model's own, and with those of a module that is never called."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.holder, self.b = conv(3, 8), conv(8, 8), conv(8, 8), conv(8, 8)
        self.weight, self.fc = nn.Parameter(0.3 * torch.randn(8, 8)), nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu(self.a(F.relu(self.stem(x))))
        x = F.relu(F.conv2d(x, self.holder.weight, self.holder.bias, padding=1))
        x = F.relu(self.b(x)).mean((2, 3))
        return self.fc(F.relu(torch.matmul(x, self.weight)))


class TwoInputs(nn.Module):
    """An image and a vector."""

    def __init__(self):
        super().__init__()
        self.image, self.vector, self.mid, self.fc = conv(3, 8), nn.Linear(5, 8), conv(8, 8), nn.Linear(8, 4)

    def forward(self, x, v):
        x = F.relu(self.image(x)) * F.relu(self.vector(v))[:, :, None, None]
        return self.fc(F.relu(self.mid(x)).mean((2, 3)))


class KeywordInput(TwoInputs):
    """The vector by keyword only, and an argument that is left out."""

    def forward(self, x, *, v, factor=1.0):
        return super().forward(x * factor, v)


class DefaultArgument(TwoInputs):
    """One that is left out, and no tensor."""

    def forward(self, x, v, factor=2.0):
        return super().forward(x * factor, v)


class Outputs(nn.Module):
    """Two heads, in a dict."""

    def __init__(self):
        super().__init__()
        self.stem, self.mid, self.logits, self.mask = conv(3, 8), conv(8, 8), nn.Linear(8, 4), conv(8, 2, 1)

    def forward(self, x):
        x = F.relu(self.mid(F.relu(self.stem(x))))
        return {"logits": self.logits(x.mean((2, 3))), "mask": self.mask(x)}


class Attention(nn.Module):
    """Attention by functions, two heads."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        q, k, v = (layer(x).unflatten(2, (2, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        weights = torch.softmax(torch.matmul(q, k.transpose(-2, -1)) / 2, -1)
        return self.out(torch.matmul(weights, v).transpose(1, 2).flatten(2))


class Multihead(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.heads(x, x, x, need_weights=False)[0]


class Transformer(nn.Module):
    """Embedding, one block with the norms in front, dropout."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.embedding, self.attention = nn.Embedding(VOCABULARY, 8), attention
        self.norms, self.drop = nn.ModuleList([nn.LayerNorm(8) for _ in range(3)]), nn.Dropout(0.1)
        self.up, self.down, self.fc = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 4)

    def forward(self, tokens):
        x = self.embedding(tokens)
        x = x + self.drop(self.attention(self.norms[0](x)))
        x = x + self.down(F.gelu(self.up(self.norms[1](x))))
        return self.fc(self.norms[2](x).mean(1))


class OneDimension(nn.Module):
    """Convolutions of one dimension, plain, transposed and depthwise, a batch norm."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.a = nn.Conv1d(5, 8, 3, padding=1), nn.BatchNorm1d(8), nn.Conv1d(8, 8, 3, padding=1)
        self.up, self.deep = nn.ConvTranspose1d(8, 6, 2, stride=2), nn.Conv1d(6, 6, 3, groups=6)
        self.b, self.fc = nn.Conv1d(6, 8, 1), nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu(self.up(F.relu(self.a(F.relu(self.norm(self.stem(x.transpose(1, 2))))))))
        return self.fc(F.relu(self.b(F.relu(self.deep(x)))).mean(2))


class ThreeDimensions(nn.Module):
    """Convolutions of three dimensions, plain and transposed."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.a = nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.Conv3d(4, 4, 3, padding=1)
        self.up, self.fc = nn.ConvTranspose3d(4, 4, 2, stride=2), nn.Linear(4, 4)

    def forward(self, x):
        x = F.relu(self.up(F.relu(self.a(F.relu(self.norm(self.stem(x.unsqueeze(1))))))))
        return self.fc(x.mean((2, 3, 4)))


class UNet(nn.Module):
    """Down, up by a transposed convolution, and a skip connection into a concatenation; no layer at the end but one."""

    def __init__(self):
        super().__init__()
        self.stem, self.down, self.mid = conv_norm(3, 6), conv(6, 8, stride=2), conv(8, 8)
        self.up, self.join, self.head = nn.ConvTranspose2d(8, 6, 2, stride=2), conv(12, 6), conv(6, 4, 1)

    def forward(self, x):
        x = F.relu(self.stem(x))
        y = F.relu(self.up(F.relu(self.mid(F.relu(self.down(x))))))
        return self.head(F.relu(self.join(torch.cat([x, y], 1)))).mean((2, 3))


class Recurrent(nn.Module):
    """A recurrent layer between linear ones."""

    def __init__(self, kind: type[nn.RNNBase]):
        super().__init__()
        self.recurrent = kind(8, 8, batch_first=True)
        self.embed, self.mid, self.fc = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(F.relu(self.mid(self.recurrent(F.relu(self.embed(x)))[0][:, -1])))


class InheritedConv(nn.Conv2d):
    """A class of one's own, which NNCF does not know."""


class Unusual(nn.Module):
    """Layers that NNCF passes by: never called, of a class of one's own, parametrized."""

    def __init__(self):
        super().__init__()
        self.stem, self.never, self.never_either = conv(3, 8), conv(8, 8), nn.BatchNorm2d(8)
        self.inherited = InheritedConv(8, 8, 3, padding=1)
        self.parametrized, self.a, self.fc = parametrizations.weight_norm(conv(8, 8)), conv(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu(self.parametrized(F.relu(self.inherited(F.relu(self.stem(x))))))
        return self.fc(F.relu(self.a(x)).mean((2, 3)))


class Norms(nn.Module):
    """Group and instance norms, PReLU, pixel shuffle, nearest enlargement, padding by reflection."""

    def __init__(self):
        super().__init__()
        self.stem, self.group, self.act = conv(3, 8), nn.GroupNorm(2, 8), nn.PReLU(8)
        self.a, self.instance = conv(8, 16, padding_mode="reflect"), nn.InstanceNorm2d(16, affine=True)
        self.b, self.norm, self.fc = conv(4, 8, padding_mode="replicate"), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.act(self.group(self.stem(x)))
        x = F.pixel_shuffle(F.leaky_relu(self.instance(self.a(x)), 0.1), 2)
        return self.fc(F.interpolate(F.relu(self.norm(self.b(x))), scale_factor=2.0).mean((2, 3)))


@dataclass(frozen=True)
class Kind:
    """
    A model and what is expected of it.

    :param make: Makes the model.
    :param inputs: Shapes of its inputs, without the batch.
    :param searched: Layers whose weights are searched, in the order of the forward pass.
    :param fixed: Layers at 8 bits.
    :param unsearched: Number of activation quantizers that feed no layer.
    :param same_input: Groups of layers that read one activation quantizer.
    :param float_input: Layers whose input is not quantized.
    :param in_float: Parameters of two and more dimensions that are not quantized.
    :param num_unified: Activation quantizers that stand at several places.
    """

    make: Callable[[], nn.Module]
    inputs: tuple[tuple[int, ...], ...]
    searched: str
    fixed: str
    unsearched: int
    same_input: tuple[str, ...] = ()
    float_input: str = ""
    in_float: str = ""
    num_unified: int = 0


def _recurrent(kind: type[nn.RNNBase]) -> Kind:
    """What ``kind`` computes with its weights is not quantized, nor are its outputs, which mid reads."""
    weights = "recurrent.weight_ih_l0 recurrent.weight_hh_l0"
    return Kind(lambda: Recurrent(kind), (SEQUENCE,), "mid", "embed fc", 0, float_input="mid", in_float=weights)


_HEADS = "embedding.weight attention.heads.in_proj_weight attention.heads.out_proj.weight"
KINDS = {
    # Unsearched: the outputs of a, b, c and down, which are added (x feeds a layer too), and the mean's input.
    "residual": Kind(Residual, (IMAGE,), "a.0 b.0 c.0 down", "stem.0 fc", 5, same_input=("c.0 down",)),
    # The outputs of the convolutions, which are joined and normalized; the pooling's input.
    "dense": Kind(Dense, (IMAGE,), "convs.0 convs.1", "stem fc", 4),
    # The mean's input. The four branches share a quantizer, which feeds mid.
    "inception": Kind(
        Inception,
        (IMAGE,),
        "one reduce three five pooled mid",
        "stem.0 fc",
        1,
        same_input=("one reduce five",),
        in_float="aux.2.weight",
        num_unified=1,
    ),
    # The mean's input.
    "depthwise": Kind(Depthwise, (IMAGE,), "deep.0 point.0 grouped.0", "stem.0 fc", 1),
    # What is multiplied, and the mean's input.
    "squeeze_excite": Kind(SqueezeExcite, (IMAGE,), "a squeeze excite point", "stem fc", 3),
    # The mean's input. The two inputs of the block share a quantizer.
    "shared": Kind(Shared, (IMAGE,), "mid", "stem block.0 fc", 1, num_unified=1),
    # The inputs of the two means and of their sum.
    "tower": Kind(Tower, (IMAGE,), "down", "stem tower fc", 4, same_input=("down tower",), num_unified=1),
    # The inputs of the function and of the mean, and what is multiplied by the matrix.
    "functional": Kind(Functional, (IMAGE,), "a b", "stem fc", 3, in_float="weight holder.weight"),
    # What is multiplied, and the mean's input.
    "two_inputs": Kind(TwoInputs, (IMAGE, VECTOR), "vector mid", "image fc", 3),
    "default_argument": Kind(DefaultArgument, (IMAGE, VECTOR), "vector mid", "image fc", 3),
    "keyword_input": Kind(KeywordInput, (IMAGE, VECTOR), "vector mid", "image fc", 3),
    # The mean reads what the last convolution reads.
    "outputs": Kind(Outputs, (IMAGE,), "mid logits", "stem mask", 0),
    # The embedding's output, what is multiplied (4), what layers add and to what (3), the inputs of last norm and mean.
    "transformer": Kind(
        lambda: Transformer(Attention()),
        (TOKENS,),
        "attention.k attention.v attention.out up down",
        "attention.q fc",
        10,
        same_input=("attention.q attention.k attention.v",),
        in_float="embedding.weight",
    ),
    # The embedding's output, the attention's input, its queries and keys, what is projected at its end, and as above.
    "multihead": Kind(lambda: Transformer(Multihead()), (TOKENS,), "up down", "fc", 10, in_float=_HEADS),
    # NNCF quantizes no depthwise convolution of one dimension. The mean's input.
    "one_dimension": Kind(OneDimension, (SEQUENCE,), "a up b", "stem fc", 1, in_float="deep.weight"),
    "three_dimensions": Kind(ThreeDimensions, ((4, 4, 4),), "a up", "stem fc", 1),
    # The mean's input. The skip connection and what it joins share a quantizer.
    "unet": Kind(UNet, (IMAGE,), "down mid up join", "stem.0 head", 1, same_input=("down join",), num_unified=1),
    "lstm": _recurrent(nn.LSTM),
    "gru": _recurrent(nn.GRU),
    # The inputs of the layers that are passed by, and the mean's.
    "unusual": Kind(
        Unusual,
        (IMAGE,),
        "a",
        "stem fc",
        3,
        in_float="never.weight inherited.weight parametrized.parametrizations.weight.original0 "
        "parametrized.parametrizations.weight.original1",
    ),
    # The inputs of the group norm, the shuffle, the enlargement and the mean.
    "norms": Kind(Norms, (IMAGE,), "a b", "stem fc", 4),
}
