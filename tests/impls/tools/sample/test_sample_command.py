"""The command line in this process, with scripted images: files, films, resuming, and every bad input in one line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageSequence

from impls.pictures.images import grid
from impls.tools.sample.run import SHOWN


def png(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def only(folder):
    (path,) = folder.iterdir()
    return path


def test_images_grid_gif_facts_and_log(sampled, scripted, tmp_path, checkpoint):
    code, out, errors = sampled("--num_images", 10, "--batch_size", 4, "--seed", 5, "--show_denoised",
                                "--gif_time", 1650)
    assert (code, errors) == (0, [])
    folder = only(tmp_path / "out")
    assert folder.name.startswith("scripted-sampler-ddpm-2") and str(folder) in out
    assert {path.name for path in folder.iterdir()} == {"images", "grid.png", "denoising.gif", "sampling.json"}
    wanted = np.stack([scripted.last.image(5, number, 20) for number in range(10)])
    files = sorted((folder / "images").iterdir())
    assert [path.name for path in files] == [f"{number:06d}.png" for number in range(10)]
    np.testing.assert_array_equal(np.stack([png(path) for path in files]), wanted)
    np.testing.assert_array_equal(png(folder / "grid.png"), grid(wanted))
    with Image.open(folder / "denoising.gif") as gif:
        assert (gif.n_frames, gif.size) == (16, grid(wanted).shape[1::-1])
        assert sum(frame.info["duration"] for frame in ImageSequence.Iterator(gif)) == 1650
    facts = json.loads((folder / "sampling.json").read_text())
    assert (facts["method"], facts["nfe"], facts["images_drawn"], facts["seed"]) == ("ddpm", 20, 10, 5)
    assert facts["weights"]["kind"] == "ema" and facts["weights"]["path"] == str(checkpoint)
    assert (facts["film"][0], facts["film"][-1], len(facts["film"])) == (0, 20, 16)
    assert facts["experiment"]["sample"]["randomness"] == "matched"
    log = only(tmp_path / "logs")
    assert log.name == folder.name + ".log" and log.read_text() == out
    assert scripted.last.closed


def test_steps_mean_ddim_and_a_short_chain_has_a_short_film(sampled, tmp_path):
    code, out, _ = sampled("--steps=5", "--eta=0.5", "--num-images=2", "--show-denoised", "--no-log", "--num_workers=0")
    folder = only(tmp_path / "out")
    facts = json.loads((folder / "sampling.json").read_text())
    assert (code, facts["method"], facts["nfe"], facts["eta"], facts["film"]) == (0, "ddim", 5, 0.5, [0, 1, 2, 3, 4, 5])
    assert "the GIF has 6 frames" in out
    assert "DDIM, eta 0.5, uniform timesteps, eps recomputed after clipping, NFE 5" in out
    assert not (tmp_path / "logs").exists()


def test_what_is_rarely_meant_is_said_before_drawing(sampled):
    code, out, _ = sampled("--steps=1", "--eta=3", "--num-images=2", "--no-log")
    places = [out.index(words) for words in ("note: steps 1: the first timestep", "note: eta 3: ", "NFE 1")]
    assert code == 0 and places == sorted(places)
    assert "note: " not in sampled("--num-images=2", "--no-log")[1]


def test_images_that_no_picture_can_show_are_refused_before_they_are_drawn(sampled, scripted, tmp_path):
    (tmp_path / "two.json").write_text('{"experiment": {"model": {"image_channels": 2}}}', encoding="utf-8")
    for more in ([], ["--test"]):
        code, out, err = sampled("--steps=5", f"--config={tmp_path / 'two.json'}", "--no-log", *more)
        assert code == 2 and "NFE" not in out
        assert "image_channels 2: a picture is grey (1) or of three colours (3)" in err[0]


def test_a_huge_number_of_images_keeps_the_grid_small(sampled, scripted, tmp_path):
    assert sampled("--steps", 1, "--num_images", SHOWN + 3, "--batch_size", 100, "--show_denoised=true")[0] == 0
    folder = only(tmp_path / "out")
    wanted = grid(np.stack([scripted.last.image(0, number, 1) for number in range(SHOWN)]))
    np.testing.assert_array_equal(png(folder / "grid.png"), wanted)
    assert len(list((folder / "images").iterdir())) == SHOWN + 3


def test_options_from_a_file_lose_to_the_command_line(sampled, tmp_path, checkpoint):
    file = tmp_path / "options.json"
    file.write_text(json.dumps({"model-path": str(checkpoint), "steps": 3, "num_images": 2, "weights": "raw",
                                "experiment": {"diffusion": {"T": 12, "variance": "fixedsmall"}}}))
    code, _, errors = sampled("--config_path", file, "--num_images", 1, model=False)
    assert (code, errors) == (0, [])
    facts = json.loads((only(tmp_path / "out") / "sampling.json").read_text())
    assert (facts["num_images"], facts["nfe"], facts["weights"]["kind"]) == (1, 3, "raw")
    assert facts["experiment"]["diffusion"]["T"] == 12
    assert sampled("--config_path", file, "--steps", 13, model=False)[2] == [
        "python -m impls.sample: error: sampling steps 13: choose 1 to 12, the number of diffusion steps"]


@pytest.mark.parametrize(("options", "message"), [
    (["--steps", "0"], "sampling steps 0: choose 1 to 20"), (["--steps", "21"], "sampling steps 21: choose 1 to 20"),
    (["--steps", "1.5"], "--steps: expected a whole number"), (["--steps", "5", "--eta", "-1"], "eta -1.0: choose"),
    (["--steps", "5", "--eta", "nan"], "eta nan: choose"), (["--eta", "nan"], "eta nan: choose"),
    (["--clipped_eps", "predicted"], "--clipped-eps belongs to DDIM: give the number of steps too"),
    (["--eta", "1"], "eta and spacing belong to DDIM"), (["--num_images", "0"], "--num-images: must be at least 1"),
    (["--batch_size", "0"], "--batch-size: must be at least 1"), (["--seed", "-1"], "--seed: must be at least 0"),
    (["--seed", str(2**63)], "--seed: must be below 2**63"), (["--spacing", "cubic"], "invalid choice 'cubic'"),
    (["--show_denoised", "--gif_time", "100"], "GIF time 100 ms is too short for 16 frames"),
    (["--show_denoised", "--frames", "1"], "frames 1: choose 2 or more"),
    (["--show_denoised", "--test"], "exclude each other"), (["--model_path", "nowhere"], "nowhere: no such file"),
    (["--bogus", "1"], "--bogus"), (["--config_path", "nowhere.json"], "nowhere.json: cannot read"),
    (["--device", "cuda"], "--device cuda: "), (["--weights", "best"], "invalid choice 'best'"),
])
def test_bad_input_is_one_line_and_writes_nothing(sampled, tmp_path, monkeypatch, options, message):
    monkeypatch.setattr("impls.tools.tool.cuda_driver_fault", lambda: "there is no NVIDIA driver")
    for test in ([], ["--test"]) if "--show_denoised" not in options else ([],):
        code, _, errors = sampled(*options, *test)
        assert code == 2
        assert len(errors) == 1 and errors[0].startswith("python -m impls.sample: error: ") and message in errors[0]
    assert {path.name for path in tmp_path.iterdir()} == {"training"}


def test_bad_backends_models_and_files(sampled, tmp_path):
    assert "--model_path is missing" in sampled(model=False)[2][0]
    assert "unknown backend 'tensorflow'" in sampled(backend="tensorflow")[2][0]
    assert "unknown option 'fast'" in sampled(backend="pytorch:fast")[2][0]
    (tmp_path / "file").write_text("")
    assert sampled(root="file")[2] == [f"python -m impls.sample: error: --sample_root {tmp_path}/file: is a file: name "
                                       "a folder"]
    for data, message in (({"steps": "5"}, "steps: "), ({"colour": 1}, "unknown key 'colour' (known: backend"),
                          ({"config": "x"}, "belongs on the command line"), ({"experiment": {"x": 1}}, "unknown key"),
                          ([1], "expected a JSON object")):
        (tmp_path / "bad.json").write_text(json.dumps(data))
        code, _, errors = sampled("--config", tmp_path / "bad.json")
        assert (code, len(errors)) == (2, 1) and message in errors[0]


def test_a_full_disk_leaves_nothing_behind(sampled, tmp_path, monkeypatch):
    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    code, _, errors = sampled("--num_images", 3)
    assert code == 2 and len(errors) == 1 and "cannot be written: No space left on device" in errors[0]
    assert list((tmp_path / "out").iterdir()) == []


def test_an_interrupted_run_leaves_nothing_behind(sampled, scripted, tmp_path):
    scripted.stop_after = 1
    assert sampled("--num_images", 3, "--batch_size", 2)[0] == 130
    assert list((tmp_path / "out").iterdir()) == []


def npz(folder):
    with np.load(folder / "images.npz") as arrays:
        assert arrays.files == ["images"]
        images = arrays["images"]
    np.testing.assert_array_equal(np.load(folder / "images.npy"), images)
    assert images.dtype == np.uint8
    return images


def test_evaluation_goes_on_where_it_was_interrupted(sampled, scripted, tmp_path):
    options = ("--test", "--num_images", 11, "--batch_size", 4)
    scripted.stop_after = 2
    assert sampled(*options)[0] == 130
    folder = tmp_path / "out"
    assert not (folder / "images.npz").exists()
    scripted.stop_after = None
    code, out, _ = sampled(*options)
    assert code == 0 and "8 images are there already" in out
    assert scripted.last.asked == [range(8, 11)]
    images = npz(folder)
    np.testing.assert_array_equal(images, [scripted.last.image(0, number, 20) for number in range(11)])
    facts = json.loads((folder / "sampling.json").read_text())
    assert (facts["num_images"], facts["images_drawn"]) == (11, 3)
    # All there: nothing is drawn; more: only what is new, with the short batch drawn whole; fewer: exactly those.
    assert sampled(*options)[0] == 0 and scripted.last.asked == []
    assert sampled("--test", "--num_images", 13, "--batch_size", 4)[0] == 0
    assert scripted.last.asked == [range(8, 12), range(12, 13)] and len(npz(folder)) == 13
    assert sampled("--test", "--num_images", 5, "--batch_size", 4)[0] == 0
    np.testing.assert_array_equal(npz(folder), images[:5])


def test_evaluation_never_mixes(sampled, scripted, tmp_path, checkpoint):
    options = ("--test", "--num_images", 6, "--batch_size", 3)
    assert sampled(*options)[0] == 0
    before = npz(tmp_path / "out")
    for other, place in ((["--seed", 1], "seed"), (["--steps", 20], "method"), (["--weights", "raw"], "weights_sha256"),
                         (["--batch_size", 2], "batch_size")):
        code, _, errors = sampled(*options, *other)
        assert code == 2 and len(errors) == 1 and f"({place} is " in errors[0]
    assert "(backend is " in sampled(*options, backend="scripted-sampler:other")[2][0]
    shards = tmp_path / "out" / "shards"
    assert sampled(*options, "--seed", 9, root="ninth")[0] == 0
    shutil.copy(tmp_path / "ninth" / "shards" / "000001.npz", shards / "000001.npz")
    (shards / "000000.npz").write_bytes(b"torn")
    assert sampled(*options)[0] == 0
    assert scripted.last.asked == [range(3), range(3, 6)]
    np.testing.assert_array_equal(npz(tmp_path / "out"), before)
