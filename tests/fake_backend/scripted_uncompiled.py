"""The preparation of a backend that does not get compiled."""


def prewarm(device, echo):
    print("scripted.cc:1:1: error: expected a semicolon", flush=True)
    raise RuntimeError("the compiler failed")
