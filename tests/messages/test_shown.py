"""Recorded sentences: shown in Chinese, whatever stands in their places, and left alone where nobody knows them."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import messages
from harness.blocks.series import time_over
from harness.judge.synchronisation import accusation, fault, figures
from harness.record.events import SyncProof
from harness.record.findings import KINDS
from harness.stats.compare import without_disturbance
from messages import PLACE, shown, speaking
from messages.recognise import COUNTS, DEEPEST, LONGEST, Form, Reader

# Names of arms, parts, layers, programs and the like, and what Chinese has no other word for.
STAYS = set(re.findall(r"\w+", """
    pytorch eager jittor ddim weight params ema cpu cuda run bench py suite align arms training sampling sequential
    epoch rank cgroup pid min nan tsc clocksource cpupower frequency set performance chronyc tracking nvidia smi dmesg
    sqrt ms faster inconclusive ddpm node tepwise norm proj ttention
"""))
PROOF = SyncProof(arm="A", part="training", attempt=0, steps_short=1, steps_long=4, short_ns=100, long_ns=110,
                  pending_before=3, pending_after=2, pending_base=0, residue_ns=5)


def chinese(text: str) -> str:
    with speaking("zh"):
        return shown(text)


def english(text: str) -> set[str]:
    """Words of a text that are English and no names."""
    without = re.sub(r"--[\w-]+(=\w+)?|`[^`]*`|'[^']*'|[\w./-]*[/_.][\w./-]*|[A-Z]+=?\w*", "", text)
    return {word for word in re.findall(r"[a-z]{2,}", without)} - STAYS


@pytest.mark.parametrize("text", [
    "gradient differs by 0.12 in down.0.weight, at most 0.01 allowed; loss differs by 0.2, at most 0.1 allowed",
    "parity: forward differs by 0.12 in output 1, at most 0.01 allowed in TF32; loss differs by nan, at most 0.1 "
    "allowed",
    "parity of pytorch:eager and jittor: optimiser step differs by 0.2, at most 0.1 allowed",
    "parity: the check did not run to its end",
    "images: only 12.00% of the values are within one level, at least 99.9% wanted",
    "images of pytorch:eager and jittor: the images have other shapes: (16, 3, 32, 32) and (16, 1, 28, 28)",
    "names or shapes of the parameters differ: down.0.weight, up.weight and 3 more; loss differs by 2, at most 1 "
    "allowed",
    "gradient differs by 0.1 in x, at most 0.01 allowed; run_bench.py --suite align --arms pytorch:eager,jittor names"
    " the first layer that differs",
    "pytorch:eager, which it is compared with, failed",
    "it failed in 2 blocks in a row",
    "the machine is too busy to measure on: a step of jittor takes 5.2 times as long in turn with the others as alone"
    " (0.1 s), more processes want a processor than there are, the load average is 3.1 on 2 processors, other "
    "programs use 60% of them; at this pace a block takes about 3.0 min, the 6 that are needed about 18 min",
    "the time limit of 5 min ended the run after 1 block",
    "the time limit of 5 min ended the run in the warm-up of block 3",
    "the time limit of 5 min ended the run before the arms' images were compared",
    "the time limit of 0.5 min ended part training before ranks were compared with one process",
    "synchronisation of jittor: the chain of ddim-10 took 1 ms with its synchronisation, a whole batch 8 ms",
    "jittor is not synchronised when its clock stops: 2 operations more than at rest were pending after a "
    "synchronisation (3 before it)",
    "jittor is not synchronised when its clock stops: reading the losses took 12 ms after the synchronisation of 4 "
    "steps, which had taken 3 ms",
    "the self-check of jittor when sampling lacks a part: its times cannot be compared: device: cpu against cuda",
    "the self-check of jittor lacks a part: the cost of the harness was not measured",
    "can this machine resolve a difference of 1% for jittor? yes, with 6 blocks (the ratios of 8 blocks spread by "
    "0.50%)",
    "can this machine resolve a difference of 1% for jittor? no: about 12 blocks needed, this run had 6 (the ratios "
    "of 6 blocks, 1 of them disturbed, spread by 0.50%)",
    "harness windows of jittor take 1.0012 times as long as a bare loop (95% interval 0.9991 to 1.0031, 12 pairs)",
    "step time: jittor against itself: 1.0012, half-width 0.32%: differences below this cannot be seen on this "
    "machine",
    "sampling time, geometric mean over cells (self-check): typical and mean step differ by over 1% in block 1, 3: "
    "some steps took much longer than the rest",
    "the interval is wider than the 1.0% margin: about 12 further blocks would decide at the spread seen so far",
    "the difference lies at the edge of the 1.0% margin: too close to it for blocks to tell on which side: quote "
    "the interval as it is",
    "the interval is wider than the 1.0% margin: with as many blocks the spread would have to be 17 times smaller: "
    "quieten the machine first",
    # As journals of before have it.
    "the interval is wider than the 1.0% margin: more than 1000 further blocks would be needed; quieten the machine "
    "first",
    "the environments decide differently: A-faster, inconclusive: start a new run on one of them",
    "blocks of different environments: 3 and 4 and 2",
    "device uuid of jittor: 0a1 in block 2, 0b2 in block 3",
    "parameter count: 12 against 13",
    "3 of 90 numbered lines are lost: 4, 7 to 9, 12",
    "line 3 cannot be read (torn: the run was cut off here): it has no checksum",
    "2 ranks do not train as one process: losses differ from one process's by up to 0.1, over 1e-05; ranks hold "
    "different params and ema",
    "jittor was steady only from step 30, too late to confirm it, in 60 warm-up steps of block 1",
    "12 operators were compiled while block 3 of jittor was measured",
    "an epoch here is 640 of 60000 images, so that it stays short",
    "another ddpm-bench run (pid 12, /tmp/run) is measuring on this machine",
    "random, the same in every arm",
    "the interval of the gap is wider than +-50% of it",
    "2 of 8 blocks were disturbed (0 of all are repeats), such as block 3: jittor used 30% of a CPU while it should "
    "have waited (at most 5%); other programs used 20% of the CPUs during the windows (at most 5%)",
    "jittor: no answer to Stepwise within 30 s from rank 1 on node7",
    "jittor: the worker was killed by signal 9 (often: out of memory)",
    "the machine was suspended for 3.2 s; a cgroup's CPU limit stopped this process for 1.2 s (at most 1% of the time)",
    "the run is on the CPU although this machine has an NVIDIA driver: NVML shows no GPU",
    "2 processes of others on cuda:0",
    "down.0.attn (Attention, call 2): its own code behind norm, before proj",
    "the phases hold 98% of the gap: cutting changes a step of jittor by +1% and of pytorch:eager by -1%",
    *(kind.meaning for kind in KINDS),
    *(kind.advice for kind in KINDS if kind.advice),
    without_disturbance([True, False], "A-faster", "inconclusive"),
    time_over(90, "during the parity check", mild=True, part="sampling").message,
    # As journals of suite scaling had it.
    time_over(90, "before block 3", mild=False, part="scaling").message,
    str(fault(PROOF)), figures(PROOF), accusation("jittor", "A", str(fault(PROOF)))[0].message,
])  # fmt: skip
def test_a_recorded_sentence_is_shown_without_english_words(text):
    assert english(chinese(text)) == set()
    assert shown(text) == text


def test_every_message_is_told_from_all_others():
    """Whatever is recorded is found by its form, also where other messages look much like it."""
    known = messages._catalogue("zh")
    alike: dict[str, list[str]] = {}
    for message in known:
        alike.setdefault(PLACE.sub("{}", message), []).append(message)
    for message, foreign in known.items():
        form = Form.of(message, foreign)
        if form is not None and not form.brief:
            filled = [f"x{number}:y" for number in range(len(PLACE.findall(message)))]
            numbers = dict(zip(PLACE.findall(message), filled, strict=True))
            text = message.format(**{name: "12" if name in COUNTS else numbers[name] for name in numbers})
            of = [one for one in alike[PLACE.sub("{}", message)] if Form.of(one, known[one])]
            told = {known[one].format(**{name: "12" if name in COUNTS else value for name, value in
                                         zip(PLACE.findall(one), filled, strict=True)}) for one in of}
            assert chinese(text).replace(" ", "") in {one.replace(" ", "") for one in told}, text


@pytest.mark.parametrize(("text", "expected"), [
    ("took 3 s: no block measured it; bread and butter", "took 3 s: 没有区组测量过它; bread and butter"),
    ("the run ended after 3 blocks", "3 个区组之后运行结束"),
    ("the run ended in the middle after 3 blocks", "3 个区组之后运行结束于 in the middle"),
    ("x of y of z holds no weights", "x of y of z 中没有权重"),
    ("No block measured it", "No block measured it"),
    ("no block measured it.", "没有区组测量过它."),
    ("a and b took turns", "a和b轮流"), ("a and b", "a and b"), ("step time, ddim-50", "单步耗时, ddim-50"),
    ("the part step time of step time", "单步耗时的单步耗时部分"), ("part x of y", "part x of y"),
    ("many blocks", "many blocks"), ("1\u202f200 blocks", "1\u202f200 个区组"), ("{n} blocks", "{n} 个区组"),
    ("{arm} holds no weights", "{arm} 中没有权重"), ("", ""), ("; ", "; "), (" and ", " and "), (". ", ". "),
])
def test_a_sentence_is_read_by_the_form_that_leaves_least_unknown(text, expected):
    reader = Reader({
        "{n} block": "{n} 个区组", "{n} blocks": "{n} 个区组", "step time": "单步耗时",
        "{path} holds no weights": "{path} 中没有权重", "no block measured it": "没有区组测量过它",
        "the run ended after {blocks}": "{blocks}之后运行结束",
        "the run ended {where} after {blocks}": "{blocks}之后运行结束于 {where}", "{who} took turns": "{who}轮流",
        "{first} and {last}": "{first}和{last}", "the part {a} of {b}": "{b} 的 {a} 部分",
        "{a}{b} are one and the same": "{a} {b}", "the places differ of {a}": "{b}"})
    assert reader.again(text) == expected
    assert reader.again(text) == expected


@pytest.mark.parametrize(("text", "names"), [
    ("attention (Attention): its own code behind norm, before linear", ("norm", "linear")),
    ("the gradient of the weight norm", ("norm",)),
    ("reference: no answer to 'Steps' within 30 s", ("reference",)),
    ("parity of training and native: the check did not run to its end", ("training", "native")),
    ("another ddpm-bench run (pid 12, training) is measuring on this machine", ("training",)),
    ("host machine blocks 0, 2", ("machine",)),
    ("pytorch weights of step-5.safetensors, preset native, 5 training steps", ("native",)),
    ("rank 2 on machine has another version than rank 0: native instead of 1: make all hosts alike",
     ("machine", "native")),
    ("pytorch:best = attention, for sampling here", ("attention",)),
    ("module time is missing in python: python -m pip install ddpm-bench", ("time", "python")),
])  # fmt: skip
def test_a_name_stays_although_it_is_a_word_that_we_translate(text, names):
    assert chinese(text) != text and all(name in chinese(text) for name in names)


def test_numbers_and_names_that_come_twice_are_the_same_in_both_places():
    reader = Reader({"give {arm}=PATH or leave {arm} out": "给出 {arm}=PATH 或去掉 {arm}", "{n} to {m}": "{n} 至 {m}"})
    assert reader.again("give jittor=PATH or leave jittor out") == "给出 jittor=PATH 或去掉 jittor"
    assert reader.again("give jittor=PATH or leave other out") == "give jittor=PATH or leave other out"
    assert reader.again("7 to 9") == "7 至 9" and reader.again("now to then") == "now to then"


def test_many_sentences_take_no_time_in_a_large_catalogue():
    """A report shows some hundred."""
    known = messages._catalogue("zh")
    verbs = ["".join(chr(ord("a") + int(digit)) for digit in str(k)) for k in range(3000 - len(known))]
    large = {**known, **{f"{{arm}} {verb}s the thing of {{what}} in {{place}}": f"{{arm}} {{what}} {{place}} {verb}"
                         for verb in verbs}}  # fmt: skip
    texts = [message.format(**dict.fromkeys(PLACE.findall(message), f"jittor in block {k}"))
             for k, message in enumerate(sorted(large)) if PLACE.search(message)][::5][:200]
    began = time.process_time()
    reader = Reader(large)
    said = [reader.again(text) for text in texts]
    assert time.process_time() - began < 1
    assert len(said) == 200


PIECES = st.sampled_from([". ", "; ", ": ", ", ", " and ", " of ", " in ", " ", "3", "jittor", "{", "}", "{x}", "\n"])


@given(st.lists(PIECES | st.text(max_size=8) | st.sampled_from(sorted(messages._catalogue("zh"))), max_size=12))
def test_any_text_is_shown(pieces):
    text = "".join(pieces)
    assert isinstance(chinese(text), str) and shown(text) == text


@given(st.text(alphabet="qxz ,.:;{}%\n", max_size=200))
def test_what_no_message_looks_like_stays(text):
    assert chinese(f"q{text}q") == f"q{text}q"


@pytest.mark.parametrize("text", [
    "; ".join(["3 blocks"] * 500), ": ".join(f"x{k}" for k in range(900)), "line 3 cannot be read: " * (2 * DEEPEST),
    "x" * (LONGEST + 1), "{" * 100, "a of b in c, d and e: f; " * 50,
])
def test_what_is_long_takes_no_time_either(text):
    began = time.process_time()
    assert isinstance(chinese(text), str)
    assert time.process_time() - began < 1


def test_what_the_system_says_is_told_in_a_place_and_of_a_record():
    failure = "No such file or directory"
    english = messages.tell("{path}: cannot be read: {reason}", path="a", reason=failure)
    assert english == f"a: cannot be read: {failure}"
    with speaking("zh"):
        told = messages.tell("{path}: cannot be read: {reason}", path="a", reason=failure)
        assert told == "a：无法读取：没有该文件或文件夹" == shown(english)
