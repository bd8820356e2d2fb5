"""Other people's images: files and folders give the same pixels, and what is unclear or harmful is refused by name."""

from __future__ import annotations

import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image
from small_evaluation import draw
from torch_fidelity.datasets import ImagesPathDataset
from torch_fidelity.utils import glob_samples_paths

from impls.errors import UsageError
from impls.evaluation.inputs import arrays, folder, open_images, sha256_of, spool

RNG = np.random.default_rng(0)


def read(path, resize=None):
    source = open_images(path, resize)
    images = source.first(source.count, True)
    assert images.shape[:3] == (source.count, *source.size)
    return np.array(images)


def pictures(path, images, suffix=".png", **how):
    path.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(path / f"{number:06d}{suffix}", **how)
    return path


def figure(one, metric):
    return next(entry for entry in one["figures"] if entry["metric"] == metric)


def test_every_form_gives_the_same_figures(evaluated, images, tmp_path):
    drawn = draw(20, 1)
    files = ["--images", images("drawn.npz", drawn), "--reference", images("real.npz", draw(30, 2))]
    np.savez_compressed(tmp_path / "arr_0.npz", drawn, np.arange(20))
    np.save(tmp_path / "order.npy", np.asfortranarray(drawn))
    np.savez(tmp_path / "order.npz", images=np.asfortranarray(drawn))
    forms = [tmp_path / "arr_0.npz", tmp_path / "order.npy", tmp_path / "order.npz", pictures(tmp_path / "png", drawn),
             pictures(tmp_path / "jpeg", drawn, ".JPG", quality=95, subsampling=0)]
    for form in forms[:-1]:
        np.testing.assert_array_equal(read(form), drawn)
    code, found, _, _ = evaluated(*files, *[word for form in forms for word in ("--images", form)])
    first, *same, lossy = (one["figures"] for one in found["sets"])
    assert code == 0 and same == [first] * 4 and lossy != first
    assert figure({"figures": lossy}, "fd")["value"] == pytest.approx(first[0]["value"], rel=0.02)


def test_a_folder_is_a_reference_with_the_cache_of_its_pixels(evaluated, files, tmp_path, quarters):
    _, first, _, _ = evaluated(*files)
    calls = quarters.calls
    real = pictures(tmp_path / "real", draw(200, 2))
    code, found, _, errors = evaluated(*files[:2], "--reference", real)
    assert (code, quarters.calls) == (0, calls + 1)
    assert found["reference"]["cached"] and found["reference"]["split"] == "all 200 images of the folder"
    assert found["sets"][0]["figures"] == first["sets"][0]["figures"]
    assert any("reading real" in line for line in errors)


@pytest.fixture
def peers(tmp_path):
    """A folder of every kind of picture that is taken as it is: sixteen pixels a side."""
    path = tmp_path / "peers"
    path.mkdir()
    colour = RNG.integers(0, 256, (16, 16, 3), np.uint8)
    grey = colour[..., 0]
    Image.fromarray(colour).save(path / "b.png")
    Image.fromarray(grey).save(path / "c.png")
    Image.fromarray(grey > 99).save(path / "d.png")
    Image.fromarray(colour).quantize(7).save(path / "a.png", bits=4)
    Image.fromarray(np.dstack([colour, np.full((16, 16), 255, np.uint8)])).save(path / "e.PNG")
    Image.fromarray(np.dstack([grey, np.full((16, 16), 255, np.uint8)])).save(path / "f.png")
    Image.fromarray(colour).save(path / "h.jpeg", quality=40)
    Image.fromarray(grey).save(path / "g.jpg", progressive=True)
    (path / ".hidden.png").write_bytes(b"mine")
    (path / "notes.txt").write_text("no picture")
    (path / "more").mkdir()
    Image.fromarray(colour).save(path / "more" / "z.png")
    return path


# Torch-fidelity leaves files open.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_folder_is_what_torch_fidelity_makes_of_it(peers):
    theirs = [name for name in glob_samples_paths(str(peers), False, "png,jpg,jpeg", verbose=False)
              if ".hidden" not in name]
    wanted = np.stack([one.numpy().transpose(1, 2, 0) for one in ImagesPathDataset(theirs)])
    found = read(peers)
    assert len(found) == 8
    np.testing.assert_array_equal(found, wanted)


def test_threads_change_neither_order_nor_pixels(tmp_path, monkeypatch):
    images = draw(100, 3)
    path = pictures(tmp_path / "many", images)
    for threads in (1, 5):
        monkeypatch.setattr(spool, "default_threads", lambda threads=threads: threads)
        np.testing.assert_array_equal(read(path), images)


def test_only_what_is_asked_for_is_decoded(tmp_path):
    path = pictures(tmp_path / "many", draw(30, 3))
    (path / "000020.png").write_bytes(b"damaged")
    np.testing.assert_array_equal(open_images(path).first(20, True), draw(30, 3)[:20])


def test_resizing_is_pillows_of_the_centre_square(tmp_path):
    wide = RNG.integers(0, 256, (3, 20, 31, 3), np.uint8)
    np.savez(tmp_path / "wide.npz", images=wide)
    wanted = [np.asarray(Image.fromarray(image[:, 5:25]).resize((8, 8), Image.Resampling.BICUBIC)) for image in wide]
    path = pictures(tmp_path / "mixed", [*wide, draw(1, 3)[0]])
    np.testing.assert_array_equal(read(tmp_path / "wide.npz", 8), wanted)
    np.testing.assert_array_equal(read(path, 8), [*wanted, draw(1, 3)[0]])
    np.savez(tmp_path / "grey.npz", images=wide[..., :1])
    np.testing.assert_array_equal(read(tmp_path / "grey.npz", 8)[..., 0], np.stack(wanted)[..., 0])
    assert sha256_of(read(path, 8)) != sha256_of(read(path, 4))


def test_resized_figures_say_so_and_share_no_cache(evaluated, images, tmp_path, cache):
    words = ["--images", images("drawn.npz", draw(20, 1, size=16)), "--reference", images("real.npz", draw(60, 2))]
    code, _, _, errors = evaluated(*words)
    assert code == 2 and "16x16 pixels, those of real.npz have 8x8" in errors[0] and "--resize N" in errors[0]
    for side in (8, 4):
        code, found, out, _ = evaluated(*words, "--resize", side)
        assert code == 0 and f"brought to {side}x{side}" in found["reference"]["split"]
        assert "compare it only with figures of images treated alike" in found["sets"][0]["warnings"][0]
        assert "changes every figure" in out
    assert len(list((cache / "features").iterdir())) == 2


def sixteen(path):
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(path)


def sixteen_rgb(path):
    """An RGB picture of 16 bits, which Pillow reads but does not write."""
    import struct
    import zlib

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + bytes(8 * 6) for _ in range(8))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
                     + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(draw(1)[0]).save(path, "JPEG", exif=exif)


def cut(path):
    content = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8)).save(content, "PNG")
    path.write_bytes(content.getvalue()[:150])


def see_through(mode, value):
    return lambda path: Image.new(mode, (8, 8), value).save(path)


BAD_PICTURES = {
    "16 bits": (sixteen, "16 bits a channel"),
    "16 bits of colours": (sixteen_rgb, "16 bits a channel"),
    "cmyk": (lambda path: Image.new("CMYK", (8, 8)).save(path, "JPEG"), "colours in CMYK: convert it to RGB"),
    "transparent": (see_through("RGBA", (1, 2, 3, 254)), "has transparent pixels"),
    "transparent grey": (see_through("LA", (1, 0)), "has transparent pixels"),
    "transparent palette": (lambda path: Image.new("P", (8, 8)).save(path, transparency=0), "has transparent pixels"),
    "transparent colour": (lambda path: Image.new("RGB", (8, 8)).save(path, transparency=(0, 0, 0)), "transparent"),
    "turned": (turned, "is stored turned (EXIF orientation 6)"),
    "frames": (lambda path: Image.new("L", (8, 8)).save(path, save_all=True, append_images=[Image.new("L", (8, 8), 9)]),
               "holds 2 frames"),
    "cut": (cut, "cannot be decoded as PNG or JPEG (image file is truncated"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be decoded"),
    "webp": (lambda path: Image.new("RGB", (8, 8)).save(path, "GIF"), "cannot be decoded"),
    "other size": (lambda path: Image.new("RGB", (8, 9)).save(path), "9x8 pixels, the first of the folder has 8x8"),
    "pipe": (os.mkfifo, "neither a file nor a folder"),
    "loop": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "no such file"),
}


@pytest.mark.parametrize("bad", BAD_PICTURES)
def test_pictures_that_are_refused_by_name(tmp_path, bad):
    make, wanted = BAD_PICTURES[bad]
    path = pictures(tmp_path / "some", draw(2))
    make(path / "5.png")
    with pytest.raises(UsageError) as fault:
        read(path)
    assert str(fault.value).startswith(f"{path / '5.png'}: ") and wanted in str(fault.value)
    assert str(fault.value).isprintable()


def test_a_decompression_bomb_is_not_decoded(tmp_path, monkeypatch):
    path = pictures(tmp_path / "some", draw(2))
    Image.new("1", (100, 60)).save(path / "5.png")
    monkeypatch.setattr(folder, "MOST_PIXELS", 5999)
    with pytest.raises(UsageError, match="5.png: 100x60 pixels are more than the 5999 that are decoded"):
        read(path, 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2999)
    with pytest.raises(UsageError, match="5.png: cannot be decoded as PNG or JPEG .*decompression bomb"):
        read(path, 8)


def sampled(path):
    (path / "shards").mkdir(parents=True)
    (path / "manifest.json").write_text("{}")
    Image.new("L", (8, 8)).save(path / "grid.png")


def one_level_down(path):
    pictures(path, draw(1))
    pictures(path / "images", draw(3))


def others(path):
    pictures(path, draw(3))
    Image.new("L", (8, 8)).save(path / "x.WebP")


@pytest.mark.parametrize(("make", "wanted"), [
    (lambda path: path.mkdir(), "holds 0 PNG or JPEG files, at least 2 are needed"),
    (lambda path: pictures(path, draw(1)), "holds 1 PNG or JPEG files"),
    (one_level_down, "sub-folders are not looked into, name one: images"),
    (sampled, "images.npz, which the same command finishes"),
    (others, "holds x.WebP beside PNG and JPEG files"),
    (os.mkfifo, "neither a file nor a folder"),
    (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
])
def test_what_is_not_plainly_a_folder_of_pictures_is_refused(evaluated, files, cache, tmp_path, make, wanted):
    path = tmp_path / "some"
    make(path)
    for words in (["--images", path, *files[2:]], [*files[:2], "--reference", path]):
        code, found, out, errors = evaluated(*words)
        assert (code, found, out, len(errors)) == (2, None, "", 1) and wanted in errors[0] and str(path) in errors[0]
    assert not cache.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path):
    path = pictures(tmp_path / "some", draw(3))
    (path / "000001.png").chmod(0)
    with pytest.raises(UsageError, match="000001.png: cannot be read: Permission denied"):
        read(path)


def archive(path, header, content, size=None):
    """An npz whose member has this header and content, stored or packed."""
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("images.npy", member.getvalue() + content)


def test_an_npz_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "_BOMB_BYTES", 1 << 20)
    monkeypatch.setattr(arrays, "spooled", lambda *_: pytest.fail("unpacked"))
    np.savez_compressed(tmp_path / "bomb.npz", images=np.zeros((700, 32, 32, 3), np.uint8))
    with pytest.raises(UsageError, match=r"bomb.npz: .* would unpack \d+ bytes to 2150400, which no pictures do"):
        open_images(tmp_path / "bomb.npz")


def test_names_in_an_archive_are_no_commands_to_the_terminal(tmp_path):
    with zipfile.ZipFile(tmp_path / "odd.npz", "w") as file:
        file.writestr("\x1b[2J.npy", b"")
    with pytest.raises(UsageError, match=r"only \?\[2J: save") as fault:
        open_images(tmp_path / "odd.npz")
    assert str(fault.value).isprintable()


@pytest.mark.parametrize(("shape", "content"), [((1 << 20, 64, 64, 3), bytes(64)), ((2, 2, 2, 3), bytes(25)),
                                                ((-1, 2, 2, 3), bytes(12))])
def test_a_header_that_promises_other_than_there_is_is_refused(tmp_path, shape, content):
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    archive(tmp_path / "false.npz", header, content)
    with pytest.raises(UsageError, match=r"false.npz: .*has shape .* and room for"):
        open_images(tmp_path / "false.npz")


def test_a_full_disk_is_told_before_anything_is_unpacked(tmp_path, monkeypatch):
    np.savez(tmp_path / "some.npz", images=draw(20))
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda _: os.terminal_size((0, 0)) and _Full())
    with pytest.raises(UsageError, match="do not fit into its 0 MB: free some space or .*TMPDIR"):
        open_images(tmp_path / "some.npz")


class _Full:
    free = 100
