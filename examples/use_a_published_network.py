"""How do I get a published network, how large is it, and how do I put it to my own classes?

Real weights: python -m reproductions checkpoints fetch evnas-cifar10-a, then network("EvNASA", pretrained=True).
"""

import torch

from common.data.sets import open_images
from common.spaces.counting import macs, parameters
from papers.evnas import network

net = network("EvNASA", dataset="cifar10")  # any name of the README, a found file, or pasted Genotype(...) text
size = f"{parameters(net):,} parameters, {macs(net, (3, 32, 32)) / 1e6:.0f} million multiply-adds"
print(f"EvNASA on CIFAR-10: {size}")

net.classifier = torch.nn.Linear(net.classifier.in_features, 3)  # a plain torch module: change what you like
digits = open_images("digits", "test")  # your own: open_images("pictures@32", "test")
images = digits.pixels[:4].float() / 255
with torch.no_grad():
    chances = net(images).softmax(1)
for label, row in zip(digits.labels[:4].tolist(), chances.tolist(), strict=True):
    print(f"a {label}: " + ", ".join(f"class {k} {share:.0%}" for k, share in enumerate(row)))
print("untrained, so near a third each; examples/finetune_and_export.py goes on from trained weights")
