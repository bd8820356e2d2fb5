"""Random `scheduler_config.json` files: keys that exist, with values that a person, a program or an accident writes."""

from __future__ import annotations

import json
import random

VALID = {
    "num_train_timesteps": lambda rng: rng.choice([2, 3, 7, 10, 17, 25, 40]),
    "beta_start": lambda rng: rng.choice([1e-4, 0.00085, 1e-3, 0.01]),
    "beta_end": lambda rng: rng.choice([0.012, 0.02, 0.1, 0.3]),
    "beta_schedule": lambda rng: rng.choice(["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"]),
    "trained_betas": lambda rng: None,
    "variance_type": lambda rng: rng.choice(["fixed_small", "fixed_small_log", "fixed_large"]),
    "clip_sample": lambda rng: rng.random() < 0.5,
    "clip_sample_range": lambda rng: rng.choice([1.0, 1, 0.5, 2.0]),
    "prediction_type": lambda rng: "epsilon",
    "thresholding": lambda rng: False,
    "dynamic_thresholding_ratio": lambda rng: 0.995,
    "sample_max_value": lambda rng: 1.0,
    "set_alpha_to_one": lambda rng: rng.random() < 0.5,
    "steps_offset": lambda rng: rng.choice([0, 0, 1, 2]),
    "timestep_spacing": lambda rng: rng.choice(["leading", "trailing", "linspace"]),
    "rescale_betas_zero_snr": lambda rng: False,
    "_diffusers_version": lambda rng: "0.42.1",
}
CLASSES = ("DDPMScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DDIMParallelScheduler")
# As JSON text, because some of them no Python value writes.
ODD = ("NaN", "Infinity", "-Infinity", "1e400", "null", "true", "false", '"epsilon"', '"linear"', '""', "[]", "{}",
       "[[1]]", "-1", "0", "0.5", "1", "3", "1e-9", "1e-300", "1e300", "9" * 50, "[0.1, 0.2]", '"1"',
       '"v_prediction"', '"learned_range"', '"fixed_large_log"', '"laplace"', '"\\u0000"', "0.999")


def scheduler_file(rng: random.Random, odd: float) -> tuple[str, set[str]]:
    """A file's text, and its keys of odd values, each with probability `odd`."""
    written = {key: json.dumps(value(rng)) for key, value in VALID.items() if rng.random() < 0.6}
    # Betas that leave no signal are another subject.
    written.setdefault("num_train_timesteps", "40")
    written["_class_name"] = json.dumps(rng.choice(CLASSES))
    changed = {key for key in written if rng.random() < odd}
    written |= {key: rng.choice(ODD) for key in changed}
    if rng.random() < odd:
        changed.add("_use_default_values")
        written["_use_default_values"] = rng.choice([*ODD, '["clip_sample"]', '["beta_end", "steps_offset"]'])
    if rng.random() < odd:
        changed.add("new_key")
        written["new_key"] = rng.choice(ODD)
    return "{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in written.items()) + "}", changed


def request(rng: random.Random) -> dict[str, object]:
    """Which chain: every T as DDPM, or some steps of DDIM."""
    ddim = rng.random() < 0.7
    return {"method": "ddim" if ddim else "ddpm", "steps": rng.choice([1, 2, 3, 5, 7, 10, 17]) if ddim else None,
            "eta": rng.choice([0.0, 0.0, 0.5, 1.0]) if ddim else 0.0, "seed": rng.randrange(1000)}
