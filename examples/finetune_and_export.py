"""How do I put trained weights to my own classes, and take the result to another program?

On real data: Train(checkpoint="weights.safetensors", dataset="pictures@32", epochs=50, lr=0.005); format="onnx".
"""

from pathlib import Path

import torch
from PIL import Image

from common.cli.verbs import RunOptions
from common.data.sets import open_images
from common.use.settings import Export
from papers.evnas.settings import Train
from papers.evnas.train import train
from papers.evnas.use import export

folder, small = (
    Path("runs/finetune_and_export"),
    {"auxiliary": False, "batch_size": 16, "cutout": 0, "flip": False, "lr": 0.05},
)
own = folder / "pictures"  # stands for your folder: two classes of twenty pictures
digits = open_images("digits", "train")
options = {out: RunOptions(paper="evnas", section="train", out=folder / out) for out in ("first", "tuned", "net.pt")}
for name, label in (("ones", 1), ("sevens", 7)):
    (own / name).mkdir(parents=True, exist_ok=True)
    for i, pixels in enumerate(digits.pixels[digits.labels == label][:20]):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(own / name / f"{i:02}.png")


first = Train(arch="EvNASA", dataset="digits", train_images=640, channels=4, layers=3, epochs=1, **small)
before = train(first, options["first"])["metrics"]["top1_error_percent"]
tuned = Train(checkpoint=str(folder / "first"), dataset=f"{own}@32", epochs=8, **small)
after = train(tuned, options["tuned"])["metrics"]["top1_error_percent"]
export(Export(checkpoint=str(folder / "tuned"), format="torchscript"), options["net.pt"])
logits = torch.jit.load(folder / "net.pt")(torch.zeros(5, 3, 32, 32))
print(f"ten digits: {before:.1f} % error; two classes of its own after fine-tuning: {after:.1f} %")
print(f"{folder / 'net.pt'} gives {tuple(logits.shape)} logits without this suite")
