"""docs/examples/record.py around real steps: the device is waited for, and a step that compiles is marked."""

from __future__ import annotations

import importlib.util
import json
import uuid
from pathlib import Path

from small_training import images, trainer

FILE = Path(__file__).parents[2] / "docs" / "examples" / "record.py"


def test_a_recorded_training(fw, tmp_path):
    spec = importlib.util.spec_from_file_location("record", FILE)
    record = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(record)
    subject = trainer(fw, images())
    subject.step()
    subject.synchronize()
    rec = record.Recorder(tmp_path / "run.jsonl")
    for number in range(2):
        with rec.step(images=4):
            subject.step()
            if fw.name == "jittor" and number:
                import jittor

                # A kernel that nobody has compiled before.
                jittor.code((1,), "float32", [jittor.ones(1)], cpu_src=f"/*{uuid.uuid4()}*/ @out(0) = @in0(0);").sync()
        # PyTorch on the CPU does not tell: nothing is ever pending there.
        assert not subject.pending_work()
    loss = subject.losses()[-1]
    rec.log(loss=loss)
    rec.close()
    first, *steps, log, end = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert list(first["framework"]) == [{"pytorch": "torch"}.get(fw.name, fw.name)]
    assert [one["compiled"] for one in steps] == [False, fw.name == "jittor"]
    assert all(one["step_s"] > 0 and one["data_s"] >= 0 for one in steps)
    assert log["loss"] == loss and log["step"] == end["steps"] == 2
