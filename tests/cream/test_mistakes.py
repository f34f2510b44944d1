"""What a user can get wrong on the command line: one line that says the cause and the remedy, and exit status 2."""

from dataclasses import replace
from itertools import count

import pytest
import torch
from PIL import Image

from common.cli.verbs import main
from common.errors import UserError
from common.weights.read import save_weights
from papers.cream.__main__ import VERBS
from papers.cream.networks.architectures import PUBLISHED
from papers.cream.networks.networks import derive
from papers.cream.search import search
from papers.cream.train import train
from tests.cream.tools import PATH, SEARCH, TRAIN, options

SMALL = ("--train-images", "80", "--holdout", "0", "--batch-size", "16", "--epochs", "1", "--erasing", "0")


@pytest.fixture
def line(capsys, tmp_path):
    """Runs a command and returns the one line of its complaint."""

    number = count()

    def run(*arguments):
        out = str(tmp_path / f"run{next(number)}")
        with pytest.raises(SystemExit) as left:
            main("cream", VERBS, [*arguments, "--device", "cpu", "--out", out])
        assert left.value.code == 2
        complaint = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error")]
        assert len(complaint) == 1
        return complaint[0]

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*SMALL, "--start-epoch", "5"), "the board would stay empty"),
        ((*SMALL, "--start-epoch=-1", "--lr", "1e30"), "diverged; lower --lr"),
        (("--macs-min", "600", "--macs-max", "1000"), "no supernet fits the window 600 to 1000"),
        (("--macs-min", "9", "--macs-max", "3"), "impossible window"),
        (("--resolution", "64"), "images of 32 pixels are smaller than --resolution 64"),
        (("--resolution", "16"), "resolution 16 is too small"),
        (("--subset-classes", "20"), "the subset needs 20 classes"),
        (("--subset-classes", "5", "--subset-images", "9999"), "with 9999 pictures each"),
        (("--pick", "top1", "--update-every", "5"), "--update-every 5 does nothing here: it acts with --pick meta"),
        (("--update-every", "99"), "no meta update would be made"),
        (("--scale-min", "0.5"), "--scale-min 0.5 does nothing here: it acts with --crop resized only"),
        (("--method", "random", "--acc-gap", "1"), "--acc-gap 1.0 does nothing here: it acts with --method cream only"),
        (("--acc-gap", "wide"), "acc-gap"),
        (("--macs-max", "nan"), "finite number"),
        (("--macs-min=-5",), "--macs-min must be 0 or more"),
        (("--variant", "modern", "--macs-max", "40", "--resolution", "224", "--plan"), "no path with 0 to 40 MFLOPs"),
        (("--variant", "modern", "--macs-max", "60", "--plan"), "--apply-resolution makes 27 pixels"),
        (("--slice", "0"), "--slice must be at least 1, not 0"),
        (("--lr=-1",), "--lr must be 0 or more, not -1"),
        (("--momentum", "1"), "--momentum must be between 0 and 1, 1 excluded"),
    ],
)
def test_search(line, arguments, message):
    assert message in line("search", *arguments)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("23", "network 23: only its accuracy was published"),
        ("72", "network 72: only its accuracy was published"),
        ("[[0],[3],[3],[3],[3],[0]]", "list of 7 lists"),
        ("[[0],[3],[3],[6],[3],[3],[0]]", "stage 3: unknown choice 6"),
        ("[[0],[],[3],[3],[3],[3],[0]]", "stage 1 has no first block"),
        ("nowhere.json", "unknown architecture 'nowhere.json'"),
        ("", "no architecture given"),
    ],
)
@pytest.mark.parametrize("verb", ["train", "evaluate", "describe"])
def test_architectures(line, verb, arch, message):
    assert message in line(verb, *(["--arch", arch] if verb != "describe" else [arch]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--eval-every", "0"), "--eval-every must be at least 1"),
        (("--dropout", "2"), "--dropout must be between 0 and 1"),
        (("--randaugment", "nan"), "--randaugment must be a finite number, not nan"),
        (("--epochs", "0"), "--epochs must be at least 1"),
        (("--lr-min=-1",), "--lr-min must be 0 or more"),
        (("--decay-rate=-1",), "--decay-rate must be between 0 and 1"),
    ],
)
def test_training(line, arguments, message):
    assert message in line("train", "--arch", "14", *arguments)


def test_checkpoints(line, tmp_path):
    with torch.device("meta"):
        shapes = derive(PUBLISHED["43"], 10).state_dict()
    torch.save({"state_dict_ema": {k: torch.zeros(v.shape) for k, v in shapes.items()}}, tmp_path / "43.pth.tar")
    complaint = line("evaluate", "--arch", "14", "--checkpoint", str(tmp_path / "43.pth.tar"))
    assert "does not fit this architecture" in complaint or "another network" in complaint
    save_weights(derive([[0]] * 7, 7), tmp_path / "seven.safetensors")
    complaint = line("evaluate", "--arch", PATH, "--checkpoint", str(tmp_path / "seven.safetensors"))
    assert "a head of 7 classes, the data set has 10" in complaint
    (tmp_path / "text.pth").write_text("no weights")
    assert "text.pth" in line("evaluate", "--arch", PATH, "--checkpoint", str(tmp_path / "text.pth"))
    assert "absent.pth" in line("evaluate", "--arch", PATH, "--checkpoint", str(tmp_path / "absent.pth"))


def test_the_folder_of_a_mistake_serves_the_corrected_command(capsys, tmp_path):
    save_weights(derive(PUBLISHED["14"], 10), tmp_path / "14.safetensors")
    flags = ["--checkpoint", str(tmp_path / "14.safetensors"), "--device", "cpu", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        main("cream", VERBS, ["evaluate", "--arch", "43", *flags])
    assert "another network" in (text := capsys.readouterr().err) or "does not fit this architecture" in text
    main("cream", VERBS, ["evaluate", "--arch", "14", *flags])
    assert (tmp_path / "run" / "result.json").exists()


def test_selection(line, tmp_path):
    assert "no search given" in line("select")
    assert "result.json" in line("select", "--search", str(tmp_path / "absent"))


def test_small_pictures(line, tmp_path):
    for split, name in (("train", "a"), ("train", "b"), ("val", "a"), ("val", "b")):
        folder = tmp_path / "set" / split / name
        folder.mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (40, 44)).save(folder / f"{i}.png")
    complaint = line("train", "--arch", PATH, "--dataset", str(tmp_path / "set"), "--resolution", "64")
    assert "pictures of 40 pixels are smaller than --resolution 64" in complaint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"macs_min": 600.0, "macs_max": 1000.0}, "no supernet fits the window"),
        ({"macs_min": 5.0, "macs_max": 1.0}, "impossible window"),
        ({"macs_max": 1.0}, "no supernet fits the window"),
        ({"resolution": 64}, "images of 32 pixels are smaller than --resolution 64"),
        ({"resolution": 16}, "resolution 16 is too small"),
        ({"start_epoch": 5}, "the board would stay empty"),
        ({"batch_size": 8}, "must be at least 2 x --slice"),
        ({"batch_size": 500}, "too few for the present sizes; use --batch-size "),
        ({"sampling": "weighted", "probabilities": (0.5, 0.5)}, "--probabilities needs 6 values"),
        ({"enforce_window": True, "macs_max": 90.0, "macs_min": 89.99999}, "MFLOPs in 10000 draws"),
        ({"holdout": 80}, "use --holdout 10"),
        ({"pick": "top1"}, "--update-every 2 does nothing here: it acts with --pick meta"),
        ({"update_every": 4}, "no meta update would be made: they come every 4 iterations"),
        ({"parts": 16}, "less than two images"),
        ({"scale_min": 0.5}, "--scale-min 0.5 does nothing here: it acts with --crop resized only"),
        ({"crop": "resized"}, "--pad 2 does nothing here: it acts with --crop padded only"),
        ({"dataset": "nowhere"}, "nowhere is missing"),
        ({"lr": 1e30}, "lower --lr"),
    ],
)
def test_search_in_python(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        search(replace(SEARCH, epochs=1 if "start_epoch" in changes else 2, **changes), options(tmp_path, "search"))
    assert "\n" not in str(caught.value)


def test_a_board_of_nans_is_named():
    from papers.cream.method.board import Board, Entry
    from papers.cream.method.meta import MetaRules, choose_teacher
    from papers.cream.method.path_sgd import PathSGD, parameter_groups
    from papers.cream.method.student import Student
    from papers.cream.networks.networks import Supernet

    net = Supernet([1] * 5, 10, 3).train()
    optimizer = PathSGD(parameter_groups(net, 0.0))
    torch.nn.init.constant_(net.classifier.weight, float("nan"))
    path = [[0], [1], [1], [1], [1], [1], [0]]
    board = Board(2)
    board.add(Entry(10.0, 60.0, path, [torch.randn(3, 3, 32, 32)], [torch.full((3, 10), 0.1)]))
    with pytest.raises(UserError, match="no teacher"):
        choose_teacher(Student(net, optimizer, path, [(None, torch.zeros(8))]), board, MetaRules())
    with pytest.raises(UserError, match="diverged"):
        board.add(Entry(float("nan"), 60.0, path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 64}, "images of 32 pixels are smaller than --resolution 64"),
        ({"batch_size": 64}, "too few for the present sizes; use --batch-size "),
        ({"epochs": 0}, "--epochs must be at least 1, not 0"),
        ({"lr": 1e30, "warmup_epochs": 0}, "stops before this update"),
    ],
)
def test_training_in_python(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        train(replace(TRAIN, **changes), options(tmp_path, "train"))
