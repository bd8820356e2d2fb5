"""What runner and worker say to each other, and that a worker answers every command with what the command promises."""

from inspect import signature
from typing import get_type_hints

import numpy as np
import pytest
from pydantic import ValidationError
from scripted_backend import SHAPES

from harness import protocol
from harness.bench import plain
from harness.protocol import group, life, sampling, timing, tracing, training
from harness.worker.worker import ANSWERS, Worker
from impls.ranks import Ranks
from impls.recipe.config import preset
from impls.recipe.isolated import Spec
from impls.store.checkpoint import save_arrays

# One line of every message as it went over the wire when each kind was first sent.
WIRE = """
Average {"op":"average","on":true}
Batch {"op":"batch","method":"ddpm","steps":7,"images":7,"seed":7,"calls":7}
Build {"op":"build","experiment":{"a":[1,null,"NaN"]},"data_path":"text","images":7}
BuildForwards {"op":"build-forwards","experiment":{"a":[1,null,"NaN"]}}
BuildSampler {"op":"build-sampler","experiment":{"a":[1,null,"NaN"]},"weights":"text"}
Built {"kind":"built","build_ns":7,"parameter_count":7,"info":{"a":[1,null,"NaN"]},"shapes":{"w":[1,2]},\
"images":7}
CacheCount {"kind":"cache-count","compiled_files":7}
Create {"op":"create","arm":"text","device":"cpu","threads":7,"file":"text"}
Created {"kind":"created","import_ns":7,"info":{"a":[1,null,"NaN"]},"compiled_files":7}
Digests {"kind":"digests","sha256":{"x":"text"}}
Done {"kind":"done"}
Draw {"op":"draw","method":"ddpm","steps":7,"images":7,"seed":7,"frames":7,"output":"text"}
EpochTimes {"kind":"epoch-times","epochs":[\
{"start_ns":1,"end_ns":2,"gap_ns":null,"step_start_ns":[1],"loader_wait_ns":[2]}]}
Epochs {"op":"epochs","epochs":7,"steps":7}
Failure {"kind":"failure","cause":"usage","message":"text","traceback":"text"}
Free {"op":"free","steps":7}
Gradients {"op":"gradients","output":"text"}
Hello {"kind":"hello","token":"text","pid":7,"rank":7,"host":"text"}
LoadState {"op":"load-state","path":"text"}
LossValues {"kind":"loss-values","losses":[1.5,"NaN","Infinity"],"loss_scale":2.5,"skipped":7}
Matmul {"op":"matmul","n":7,"repeats":7}
MemoryValues {"kind":"memory-values","rss_peak_bytes":7,"device_allocated_bytes":7,"device_peak_bytes":7,\
"device_reserved_bytes":7,"reason":"text"}
Note {"kind":"note","text":"text"}
Operate {"op":"operate","spec":{"kind":"linear","inputs":[[7]],"output":[9],"weight":[9,7],"groups":0,"eps":0.0,\
"heads":1,"rate":0.0,"first":false,"flop":126},"batch":7,"training":true,"windows":7,"window_ns":7}
OperatorTimes {"kind":"operator-times","offered":true,"runs":7,"window_ns":[7]}
Overhead {"op":"overhead","pairs":7,"steps":7}
OverheadTimes {"kind":"overhead-times","bare_ns":[1,2],"harness_ns":[1,2]}
Predict {"op":"predict","inputs":"text","output":"text"}
Prewarm {"op":"prewarm","arm":"text","device":"cpu"}
Profile {"op":"profile","arm":"text","steps":7,"output":"text"}
ProfileSums {"kind":"profile-sums","tool":"text","note":"text","by_class":[{"name":"text","phase":"text",\
"operator_class":"text","count":7,"ns":0.5}],"longest":[{"name":"text","phase":"text","operator_class":"text","count":7,\
"ns":0.5}]}
ProveSync {"op":"prove-sync","steps_short":7,"steps_long":7}
Rate {"kind":"rate","flops":2.5}
ReadCache {"op":"cache"}
ReadDigests {"op":"digests"}
ReadLosses {"op":"losses"}
ReadMemory {"op":"memory"}
Reduce {"op":"reduce","floats":7,"rounds":7}
ReduceTimes {"kind":"reduce-times","round_ns":[1,2]}
SaveState {"op":"save-state","path":"text"}
Phased {"op":"phased","steps":7}
PhaseTimes {"kind":"phase-times","phase_ns":{"x":[7]}}
Span {"kind":"span","start_ns":7,"end_ns":7,"steps":7}
SpringTrap {"op":"trap","steps":7,"images":7,"seed":7}
StepTimes {"kind":"step-times","start_ns":[1,2],"step_ns":[1,2],"end_ns":7}
Stepwise {"op":"stepwise","steps":7}
Stop {"op":"stop"}
Swap {"op":"swap","arm":"text","experiment":{"a":[1,null,"NaN"]},"device":"cpu","threads":7,"data_path":"text",\
"images":7,"warm":7,"rounds":7,"steps":7}
SwapTimes {"kind":"swap-times","plain_ns":[1,2],"swapped_ns":[1,2],"operators":{"x":"text"}}
SyncEvidence {"kind":"sync-evidence","pending_before":7,"pending_after":7,"pending_base":7,"short_ns":7,"long_ns":7,\
"residue_ns":7}
Trace {"op":"trace","output":"text","twin":"plain","feed":"text","steps":7}
TraceDone {"kind":"trace-done","offered":true,"calls":7}
TrapTimes {"kind":"trap-times","unsynchronised_ns":7,"synchronised_ns":7}
"""
LINES = dict(line.split(" ", 1) for line in WIRE.strip().splitlines())


@pytest.mark.parametrize("kind", [*protocol.COMMANDS, *protocol.REPLIES], ids=lambda kind: kind.__name__)
def test_every_message_comes_back_as_it_was_sent_in_the_same_bytes(kind):
    data = LINES[kind.__name__].encode()
    decode = protocol.decode_command if kind in protocol.COMMANDS else protocol.decode_reply
    message = decode(data)
    assert type(message) is kind
    assert protocol.encode(message) == data


def test_a_fault_that_quotes_a_name_that_is_no_unicode_arrives_and_such_a_path_is_never_altered():
    odd = b"/caf\xe9".decode(errors="surrogateescape")
    failure = life.Failure(cause="error", message=f"{odd}: no module", traceback=odd)
    arrived = protocol.decode_reply(protocol.encode(failure))
    assert arrived == life.Failure(cause="error", message=r"/caf\xe9: no module", traceback=r"/caf\xe9")
    with pytest.raises(ValueError, match="surrogates not allowed"):
        protocol.encode(life.Prewarm(arm=odd, device="cpu"))


def test_a_line_of_every_message_is_known_and_no_tag_is_used_twice():
    kinds = [*protocol.COMMANDS, *protocol.REPLIES]
    assert sorted(kind.__name__ for kind in kinds) == sorted(LINES)
    assert len({kind.__name__ for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("data", [
    b"", b"{", b"[]", b"{}", b'{"op":"no such"}', b'{"op":"stepwise"}', b'{"op":"stop","more":1}', b'{"kind":"done"}'])
def test_what_is_no_command_is_refused(data):
    with pytest.raises(ValidationError):
        protocol.decode_command(data)


@pytest.mark.parametrize("command", protocol.COMMANDS, ids=lambda command: command.__name__)
def test_every_command_has_an_answer_of_the_promised_type(command):
    assert command.reply() in protocol.REPLIES
    answer = ANSWERS[command]
    given = get_type_hints(answer)
    assert given.pop("return") is command.reply()
    assert given.pop("command", command) is command
    needed = next(iter(signature(answer).parameters))
    assert needed in ("self", "backend", "stepper", "trainer", "sampler", "group")
    for name in set(given) - {"config"}:
        assert get_type_hints(getattr(Worker, name).fget)["return"] == given[name]


def test_nothing_is_answered_that_cannot_be_asked():
    assert set(ANSWERS) == set(protocol.COMMANDS)


def test_a_worker_answers_every_command(lab, tmp_path):
    data, state, drawn = tmp_path / "images.npy", str(tmp_path / "state"), str(tmp_path / "drawn")
    recipe = preset("tiny")
    np.save(data, np.zeros((8, 32, 32, 3), np.uint8))
    inputs = tmp_path / "inputs"
    save_arrays(inputs, {"x": np.zeros((1, 3, 32, 32), np.float32), "t": np.zeros(1, np.int64)})
    weights = tmp_path / "weights"
    save_arrays(weights, {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()})
    cell = {"steps": 2, "images": 1, "seed": 0}
    asked = [
        life.Prewarm(arm="scripted", device="cpu"), life.Create(arm="scripted", device="cpu", threads=1),
        life.Build(experiment=plain(recipe), data_path=str(data)), life.ReadCache(),
        timing.Stepwise(steps=1), timing.Phased(steps=1), timing.Free(steps=1), timing.Overhead(pairs=1, steps=1),
        timing.ProveSync(steps_short=1, steps_long=2), timing.Matmul(n=1, repeats=1), timing.ReadMemory(),
            timing.Operate(spec=Spec(kind="silu", inputs=((3,),), output=(3,)), batch=1, training=True, windows=1,
                           window_ns=1),
        group.Average(on=True), group.Reduce(floats=2, rounds=1), group.ReadDigests(),
        training.Epochs(epochs=1, steps=1), training.ReadLosses(), training.SaveState(path=state),
        training.LoadState(path=state), training.Predict(inputs=str(inputs), output=str(tmp_path / "eps")),
        training.Gradients(output=str(tmp_path / "gradients")),
        training.Profile(arm="scripted", steps=1, output=str(tmp_path / "trace")),
        tracing.Trace(output=str(tmp_path / "looked-into"), twin="plain"),
        training.Swap(arm="scripted:slow", device="cpu", threads=1, data_path=str(data), warm=1, rounds=2, steps=1),
        life.BuildForwards(experiment=plain(recipe)),
        life.BuildSampler(experiment=plain(recipe), weights=str(weights)),
        sampling.Batch(method="ddim", **cell), sampling.Batch(method="ddim", calls=1, **cell),
        sampling.Draw(method="ddim", frames=2, output=drawn, **cell), sampling.SpringTrap(**cell), life.Stop()]
    worker = Worker(lab.clock, ranks=Ranks(0, 2, 0, 2, "mpirun"))
    for command in asked:
        assert type(worker.handle(command)) is command.reply(), command.op
    assert {type(command) for command in asked} == set(protocol.COMMANDS)


@pytest.mark.parametrize(("command", "message"), [
    (timing.Matmul(n=1, repeats=1), "work before it asked for a backend"),
    (timing.Stepwise(steps=1), "steps before anything was built"),
    (training.ReadLosses(), "steps before it asked for a trainer"),
    (sampling.SpringTrap(steps=1, images=1, seed=0), "images before it asked for a sampler")])
def test_what_is_asked_too_early_fails_in_one_line(command, message):
    failure = Worker().handle(command)
    assert failure.cause == "error" and failure.message == f"RuntimeError: the runner asked for {message}"
