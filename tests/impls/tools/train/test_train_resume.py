"""A training that stops goes on exactly, in its own folder or in a new one."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from short_training import SHORT, files, last, same

from impls.recipe.randomness import STREAMS
from impls.store.checkpoint import Note, load_state, read_note, save_state
from impls.tools import tool
from impls.tools.train import options as train_options
from impls.tools.train import start as train_start
from impls.tools.train.options import parse


def test_going_on_in_the_folder_repeats_the_uninterrupted_training(trained):
    whole = trained(*SHORT, root="whole")
    part = trained(*SHORT, "--max_steps", 12, root="part")
    assert part.steps == [9, 12]
    rest = trained("--model_path", part.folder, "--max_steps", "None", backend=None, root=None)
    # Nothing but the training itself was named: options, backend, data set and folder are the training's own.
    assert rest.code == 0 and rest.out.strip() == str(last(part.folder))
    assert part.losses == whole.losses
    assert same(last(part.folder), last(whole.folder))


@pytest.mark.parametrize(("name", "told"), [(b"cafe", True), (b"caf\xe9", False)])
def test_settings_name_the_whole_place_of_the_data_where_a_file_can(tmp_path, monkeypatch, name, told):
    place = tmp_path / name.decode(errors="surrogateescape")
    place.mkdir()
    monkeypatch.chdir(place)
    options, overrides = parse(["--data-root", "data"])
    recipe = train_options.experiment(options, overrides, "cpu")
    file = tmp_path / "config.json"
    file.write_text(train_options.as_file(options, "digits", "pytorch", recipe), encoding="utf-8")
    # They are read when a training goes on.
    assert parse(["--config", str(file)])[0].data_root == (str(place / "data") if told else "data")


def test_lines_newer_than_the_checkpoint_go(trained):
    whole = trained(*SHORT, root="whole")
    part = trained(*SHORT, root="part")
    for step in (18, 27):
        (part.folder / "checkpoints" / f"step-{step:08d}.safetensors").unlink()
    with (part.folder / "log.jsonl").open("a") as log:
        log.write('{"step": 28, "epo')
    (part.folder / "checkpoints" / ".step-00000018.safetensors.1.partial").touch()
    assert trained("--model_path", part.folder, backend=None, root=None).code == 0
    assert part.losses == whole.losses
    assert files(part.folder) == files(whole.folder)


def test_an_older_checkpoint_goes_on_in_a_new_folder_with_its_trace(trained):
    whole = trained(*SHORT, root="whole")
    before = files(whole.folder)
    fork = trained("--model_path", whole.folder / "checkpoints" / "step-00000009.safetensors", root="fork")
    assert fork.code == 0 and any("in a new folder" in line for line in fork.errors)
    assert fork.losses == whole.losses and fork.steps == [18, 27]
    assert files(whole.folder) == before


@pytest.mark.parametrize(("words", "reason"), [
    (("--lr", 1e-5), "train.lr 0.0002 -> 1e-05"), (("--seed", 4), "seed 0 -> 4"),
    (("--dataset_name", "synthetic"), "images hash of digits -> hash of synthetic"),
    (("--backend", "scripted-trainer:other"), "backend scripted-trainer -> scripted-trainer:other"),
])
def test_changed_settings_go_on_in_a_new_folder(trained, words, reason):
    part = trained(*SHORT, "--max_steps", 9, root="part")
    log = (part.folder / "log.jsonl").read_text()
    rest = trained("--model_path", part.folder, "--max_steps", 18, *words, root="rest",
                   backend=None if "--backend" in words else "scripted-trainer")
    assert rest.code == 0, rest.errors
    assert any(reason in line for line in rest.errors)
    assert rest.folder != part.folder and rest.losses[:9] == part.losses and len(rest.losses) == 18
    assert (part.folder / "log.jsonl").read_text() == log


@pytest.mark.parametrize(("before", "now", "line"), [
    (("--threads", 2), ("--threads", 1), "threads 2 -> 1: the last digits will differ from those of an uninterrupted "
     "training; to go on exactly: --threads 2"),
    (("--threads", 2), ("--threads", 3, "--lr", 1e-5), "threads 2 -> 3: the last digits"),
    (("--threads", 5), (), "threads 5 -> 1: the last digits will differ from those of an uninterrupted training; to go "
     "on exactly: OMP_NUM_THREADS=5 python -m impls.train --device cpu --model_path {}"),
    (("--threads", 9), ("--threads", 2), "to go on exactly, give the process 9 processors"),
    (("--threads", 2), ("--threads", 2), None),
    (("--threads", 2, "--backend", "scripted-trainer:other"), ("--threads", 1), None),
    (("--threads", 2), ("--threads", 1, "--backend", "scripted-trainer:other"), None),
])
def test_what_cannot_go_on_exactly_says_so_and_how_it_could(trained, monkeypatch, before, now, line):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(tool, "usable_cpus", lambda: 9)
    part = trained(*SHORT, "--max_steps", 9, *before, backend=None if "--backend" in before else "scripted-trainer")
    # What a training was started with is its own; here it comes from the surroundings.
    settings = part.folder / "config.json"
    own = json.loads(settings.read_text())
    del own["threads"]
    settings.write_text(json.dumps(own))
    monkeypatch.setattr(train_start, "usable_cpus", lambda: 8)
    rest = trained("--model_path", part.folder, "--max_steps", "None", *now, backend=None, root=None)
    assert rest.code == 0
    told = [said for said in rest.errors if "the last digits" in said]
    assert line.format(part.folder) in told[0] if line else not told


def test_the_threads_that_were_asked_for_are_taken_again(trained, monkeypatch):
    for module in (tool, train_options):
        monkeypatch.setattr(module, "usable_cpus", lambda: 4)
    part = trained(*SHORT, "--max_steps", 9, "--threads", 3)
    assert read_note(last(part.folder)).threads == 3
    rest = trained("--model_path", part.folder, "--max_steps", "None", backend=None, root=None)
    assert rest.code == 0 and not any("the last digits" in line for line in rest.errors)
    assert read_note(last(part.folder)).threads == 3


def test_a_machine_with_fewer_processors_locks_no_training_out(trained, monkeypatch):
    with monkeypatch.context() as large:
        large.setattr(tool, "usable_cpus", lambda: 10**6)
        part = trained(*SHORT, "--max_steps", 9, "--threads", 10**6)
    go_on = ("--model_path", part.folder, "--max_steps", "None")
    asked = trained(*go_on, "--threads", 10**6, backend=None, root=None)
    assert asked.code == 2 and "the CPUs that this process may use, got 1000000" in asked.errors[-1]
    rest = trained(*go_on, backend=None, root=None)
    assert rest.code == 0
    assert any("the last digits" in line and "give the process 1000000 processors" in line for line in rest.errors)


def test_a_folder_from_before_has_no_further_checkpoints_by_time(trained):
    part = trained(*SHORT, "--max_steps", 9)
    settings = json.loads((part.folder / "config.json").read_text(encoding="utf-8"))
    for name in ("keep_last", "checkpoint_minutes"):
        del settings[name]
    (part.folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    options, _ = parse(["--model_path", str(part.folder)])
    assert (options.keep_last, options.checkpoint_minutes) == (0, 0)


def test_another_version_of_the_framework_is_said(trained, scripted, monkeypatch):
    part = trained(*SHORT, "--max_steps", 9)
    monkeypatch.setattr(scripted, "info", replace(scripted.info, version="2"))
    rest = trained("--model_path", part.folder, "--max_steps", "None", backend=None, root=None)
    assert "framework Scripted 1 -> Scripted 2: the last digits will differ" in "\n".join(rest.errors)


def test_a_checkpoint_that_does_not_say_its_threads_goes_on_without_a_word(trained):
    part = trained(*SHORT, "--max_steps", 9)
    state, config = load_state(last(part.folder))
    save_state(last(part.folder), state, config, Note(arm="scripted-trainer"))
    rest = trained("--model_path", part.folder, "--max_steps", "None", backend=None, root=None)
    assert rest.code == 0 and not any("the last digits" in line for line in rest.errors)


def test_a_checkpoint_from_before_the_streams_had_a_version_goes_on_in_a_new_folder(trained):
    """Its next steps draw other noise, timesteps and flips than an older program would have drawn."""
    part = trained(*SHORT, "--max_steps", 9, root="part")
    with safe_open(last(part.folder), "numpy") as file:
        metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    note = json.loads(metadata["note"])
    assert note.pop("streams") == STREAMS and note.pop("ranks") == 1
    save_file(arrays, last(part.folder), {**metadata, "note": json.dumps(note)})
    assert (read_note(last(part.folder)).streams, read_note(last(part.folder)).ranks) == (1, 1)
    before = files(part.folder)
    rest = trained("--model_path", part.folder, "--max_steps", 18, root="rest")
    assert rest.code == 0 and files(part.folder) == before
    assert any("in a new folder (streams of noise, timesteps and flips 1 -> 2, which draw other numbers" in line
               for line in rest.errors)
    assert rest.losses[:9] == part.losses and read_note(last(rest.folder)).streams == STREAMS
    native = trained("--model_path", part.folder, "--max_steps", 18, "--loader", "native", root="native")
    assert native.code == 0 and not any("streams of noise" in line for line in native.errors)


def test_a_bare_file_names_its_backend_and_data(trained, tmp_path):
    part = trained(*SHORT, "--max_steps", 9, root="part")
    alone = tmp_path / "alone.safetensors"
    last(part.folder).rename(alone)
    rest = trained("--model_path", alone, "--num_epochs", 2, backend=None, root="rest")
    assert rest.code == 0 and rest.folder.name.startswith("scripted-trainer-tiny")
    assert [step for step, _ in rest.losses] == list(range(10, 19))


def test_a_finished_training_has_nothing_to_do(trained):
    done = trained(*SHORT)
    before = files(done.folder)
    again = trained("--model_path", done.folder, backend=None, root=None)
    assert again.code == 0 and again.out == "" and "nothing to do" in again.errors[-1]
    assert files(done.folder) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [5, 9])
def test_a_signal_finishes_the_step_and_says_how_to_go_on(trained, scripted, monkeypatch, number, step):
    whole = trained(*SHORT, root="whole")
    monkeypatch.setattr(scripted, "on_step", lambda trainer: trainer.steps == step and os.kill(os.getpid(), number))
    cut = trained(*SHORT, root="cut")
    assert cut.code == 130 and cut.out == "" and cut.steps == [step]
    assert cut.errors[-1].endswith(f"to go on: python -m impls.train --model_path {cut.folder}")
    assert not (cut.folder / "samples").exists()
    monkeypatch.setattr(scripted, "on_step", None)
    assert trained("--model_path", cut.folder, backend=None, root=None).code == 0
    assert cut.losses == whole.losses
    assert same(last(cut.folder), last(whole.folder))


def test_a_second_signal_ends_at_once(trained, scripted, monkeypatch):
    def twice(trainer):
        if trainer.steps == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(scripted, "on_step", twice)
    cut = trained(*SHORT)
    assert cut.code == 130 and not (cut.folder / "checkpoints").exists()
